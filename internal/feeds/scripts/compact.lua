-- KEYS: token, feeds, log, feeds to be, log as read.  ARGV: token, generation, length of the log as read, fields of the
-- feeds to be (0: the feeds stay).
-- What is large comes in keys of its own, by plain commands before this one, and is compared and moved by commands:
-- for each string that Lua sees, it computes a hash of every byte.
local length, fields = tonumber(ARGV[3]), tonumber(ARGV[4])

local function holds()
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
  if (redis.call('HGET', KEYS[2], 'g') or '') ~= ARGV[2] then return false end
  if fields > 0 and redis.call('HLEN', KEYS[4]) ~= fields then return false end
  if length == 0 then return true end
  if redis.call('STRLEN', KEYS[3]) < length or redis.call('STRLEN', KEYS[5]) ~= length then return false end
  -- The log is compared whole, so that what was lost and written again is told from what was read.
  redis.call('BITOP', 'XOR', KEYS[5], KEYS[5], KEYS[3])
  return redis.call('BITCOUNT', KEYS[5], 0, length - 1) == 0
end

if not holds() then
  redis.call('DEL', KEYS[4], KEYS[5])
  return 0
end
if fields > 0 then
  redis.call('PERSIST', KEYS[4])
  redis.call('RENAME', KEYS[4], KEYS[2])
end
if redis.call('STRLEN', KEYS[3]) > length then
  redis.call('SET', KEYS[3], redis.call('GETRANGE', KEYS[3], length, -1))
else
  redis.call('DEL', KEYS[3])
end
redis.call('DEL', KEYS[5])
return 1
