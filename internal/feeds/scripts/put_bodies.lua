-- put_body for many posts of a zone.  KEYS: token, posts.  ARGV: token, life in seconds, offset and value of each post.
local done = {}
local well = redis.call('GET', KEYS[1]) == ARGV[1]
for i = 2, #KEYS do
  local offset, value = ARGV[2 * i - 1], ARGV[2 * i]
  local there = well and redis.call('GET', KEYS[i])
  local before = there and string.match(there, '^B(%d+):')
  if not well or there and (not before or tonumber(before) > tonumber(offset)) then
    done[i - 1] = 0
  else
    redis.call('SET', KEYS[i], value, 'EX', ARGV[2])
    done[i - 1] = 1
  end
end
return done
