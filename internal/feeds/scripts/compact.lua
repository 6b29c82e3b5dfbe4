-- KEYS: token, feeds, log.  ARGV: token, generation, next generation, the log as read, then slot and value (empty: cold)
-- of each feed that changes.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'g') or '') ~= ARGV[2] then return 0 end
-- The log is compared whole: cheaper than a hash of it, and what was lost and written again is told from what was read.
local length = #ARGV[4]
if length > 0 and redis.call('GETRANGE', KEYS[3], 0, length - 1) ~= ARGV[4] then return 0 end
local set = {}
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[i])
  else
    set[#set + 1] = ARGV[i]
    set[#set + 1] = ARGV[i + 1]
  end
end
if #ARGV > 4 then
  redis.call('HSET', KEYS[2], 'g', ARGV[3], unpack(set))
end
if redis.call('STRLEN', KEYS[3]) > length then
  redis.call('SET', KEYS[3], redis.call('GETRANGE', KEYS[3], length, -1))
else
  redis.call('DEL', KEYS[3])
end
return 1
