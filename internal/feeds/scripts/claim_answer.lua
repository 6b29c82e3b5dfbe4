-- KEYS: record, lease.  ARGV: owner, request, post, life in seconds, lease in milliseconds.
local r = redis.call('HMGET', KEYS[1], 'request', 'post', 'answer')
if r[1] and r[1] ~= ARGV[2] then return {'other', ''} end
if r[3] then return {'answered', r[3]} end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[5]) then return {'busy', ''} end
if r[1] then return {'mine', r[2]} end
redis.call('HSET', KEYS[1], 'request', ARGV[2], 'post', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {'mine', ARGV[3]}
