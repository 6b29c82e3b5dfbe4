-- KEYS: token, marks, recovering, writer.  ARGV: life of the counter in seconds, token and counter that the writer knows.
local token = redis.call('GET', KEYS[1]) or ''
local counter = tonumber(redis.call('GET', KEYS[4]) or 0)
if token ~= ARGV[2] or counter >= tonumber(ARGV[3]) then
  counter = redis.call('INCR', KEYS[4])
  redis.call('EXPIRE', KEYS[4], ARGV[1])
end
return {token, counter, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
