-- Returns the run, and the record's fields and values, none if there is no record.
-- KEYS: record.
local now, refused = run()
if not now then return redis.error_reply(refused) end
return {now, redis.call('HGETALL', KEYS[1])}
