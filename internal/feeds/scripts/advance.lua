-- KEYS: token, marks, recovering, writer.  ARGV: token, counter, next counter, life of the counter in seconds, then
-- input and offset of each watermark.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[4]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[4], ARGV[3], 'EX', ARGV[4])
if #ARGV == 4 then return 1 end
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
if redis.call('EXISTS', KEYS[3]) == 0 then return 1 end
for i = 5, #ARGV, 2 do
  local wanted = redis.call('HGET', KEYS[3], ARGV[i])
  if wanted and tonumber(wanted) <= tonumber(ARGV[i + 1]) then redis.call('HDEL', KEYS[3], ARGV[i]) end
end
return 1
