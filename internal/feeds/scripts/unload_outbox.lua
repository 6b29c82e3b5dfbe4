-- KEYS: outbox.  ARGV: the mark of a loaded one, 8 bytes.  The next id, twice, takes the mark's place: doubles are dropped
-- when an outbox is read, and who has read it with the mark cannot rewrite it.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
local next = redis.call('GETRANGE', KEYS[1], 8, 15)
if next == '' then
  redis.call('DEL', KEYS[1])
elseif #next == 8 then
  redis.call('SETRANGE', KEYS[1], 0, next)
else
  return 0
end
return 1
