-- KEYS: token, feeds.  ARGV: token, generation, next generation, slot, value (empty: cold).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'g') or '') ~= ARGV[2] then return 0 end
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[2], ARGV[4])
else
  redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
end
redis.call('HSET', KEYS[2], 'g', ARGV[3])
return 1
