-- KEYS: token, outbox.  ARGV: token, length of the old value, its SHA-1, new value.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local length = tonumber(ARGV[2])
local there = redis.call('GET', KEYS[2]) or ''
if #there < length or (length == 0 and there ~= '') or redis.sha1hex(string.sub(there, 1, length)) ~= ARGV[3] then return 0 end
local value = ARGV[4] .. string.sub(there, length + 1)
if value == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], value) end
return 1
