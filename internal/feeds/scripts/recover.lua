-- KEYS: token, marks, recovering, writer.  ARGV: old token, new token, counter, life of the counter in seconds, number
-- of ends, then input and offset of each end, then of each watermark.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if tonumber(redis.call('GET', KEYS[4]) or 0) ~= tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[4], '1', 'EX', ARGV[4])
local ends = 6 + 2 * tonumber(ARGV[5])
for i = 6, #ARGV, 2 do
  if i >= ends then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  else
    local wanted = redis.call('HGET', KEYS[3], ARGV[i])
    if not wanted or tonumber(wanted) < tonumber(ARGV[i + 1]) then
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
end
return 1
