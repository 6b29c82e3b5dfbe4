-- KEYS: token, marks, recovering, writer.  ARGV: life of the counter in seconds.
local counter = redis.call('INCR', KEYS[4])
redis.call('EXPIRE', KEYS[4], ARGV[1])
return {redis.call('GET', KEYS[1]) or '', counter, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
