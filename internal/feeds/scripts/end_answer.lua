-- KEYS: record, lease.  ARGV: owner, answer, life in seconds, 1 to forget the request.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1])
elseif ARGV[2] ~= '' then
  if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
  redis.call('HSET', KEYS[1], 'answer', ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
