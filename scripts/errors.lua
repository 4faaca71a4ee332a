
-- errors: the end of every script. It answers the error that has ended the function above, with its
-- code first: some servers put the line of the script before it.
local failure = type(reply) == 'table' and reply.err or tostring(reply)
failure = string.gsub(failure, '^[@%w_]*: ?%d+: %-?', '')
if not string.find(failure, '^%u+ ') then failure = 'ERR ' .. failure end
return redis.error_reply(failure)
