-- Writes the record if this is still the run, and holds the version, that the
-- writer saw, or if it holds the same attempt in the same run. Returns 1 if the
-- record stands, 0 if another does.
-- KEYS: record. ARGV: run seen, version seen, attempt, channel, connection, and
-- then fields and values, always all of a record's.
-- Versions are compared as text: numbers in Lua are exact to 2^53 only.
local now, refused = run()
if not now then return redis.error_reply(refused) end
if now ~= ARGV[1] then return 0 end
local old = redis.call('HMGET', KEYS[1], 'ver', 'attempt', 'run')
if not old[1] and redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('ERR damaged: a hash without a version')
end
local ours = old[2] == ARGV[3] and old[3] == now
if not ours and (old[1] or '0') ~= ARGV[2] then return 0 end
-- Our own attempt is written again, because from Redis 7.2 on WAIT speaks only of
-- what its own network connection has written.
-- PERSIST takes away an expiry that somebody set, and it comes first because it
-- needs no memory: a full Redis refuses HSET only as the first write of a script.
-- A DEL would do for that too, but an HSET that was then refused, say by an ACL,
-- would have cost the record.
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.pcall('PUBLISH', ARGV[4], ARGV[5]) -- a hint: the write stands without it
return 1
