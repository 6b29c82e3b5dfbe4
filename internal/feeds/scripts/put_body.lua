-- KEYS: token, post.  ARGV: token, offset, value, life in seconds, 1 to write only where a body is.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local there = redis.call('GET', KEYS[2])
if there then
  local offset = string.match(there, '^B(%d+):')
  if not offset or tonumber(offset) > tonumber(ARGV[2]) then return 0 end
elseif ARGV[5] == '1' then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
return 1
