-- run returns the name of this life of Redis as a master: its process (run_id)
-- and its term (master_replid, which changes with each promotion). The process
-- alone would not do: a master that was replaced, took the writes of the other
-- and was promoted again has lost writes and kept its run_id. Where there is no
-- name it returns nil and the reason.
local function run()
  local server = redis.pcall('INFO', 'server')
  local replication = redis.pcall('INFO', 'replication')
  if type(server) ~= 'string' or type(replication) ~= 'string' then
    return nil, 'ERR INFO is refused: without the ACL rule +info a failover cannot be noticed'
  end
  if string.find(replication, 'role:slave', 1, true) then
    return nil, 'ERR this Redis is a replica: records are read from and written to a master only'
  end
  local process = string.match(server, 'run_id:(%w+)')
  if not process then
    return nil, 'ERR INFO shows no run_id: without it a failover cannot be noticed'
  end
  local term = string.match(replication, 'master_replid:(%w+)')
  return process .. '-' .. (term or '')
end
