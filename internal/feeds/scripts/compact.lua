-- KEYS: token, feeds, log.  ARGV: token, generation, next generation, length of the log as read, its SHA-1, then slot
-- and value (empty: cold) of each feed that changes.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'g') or '') ~= ARGV[2] then return 0 end
local length = tonumber(ARGV[4])
local there = redis.call('GET', KEYS[3]) or ''
if #there < length or redis.sha1hex(string.sub(there, 1, length)) ~= ARGV[5] then return 0 end
for i = 6, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  else
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
if #ARGV > 5 then redis.call('HSET', KEYS[2], 'g', ARGV[3]) end
if #there == length then
  redis.call('DEL', KEYS[3])
else
  redis.call('SET', KEYS[3], string.sub(there, length + 1))
end
return 1
