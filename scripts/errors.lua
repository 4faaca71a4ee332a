
-- errors: the end of every script. It answers the error that has ended the function above, with its
-- code first: Redis 6 puts the line of the script before it.
if type(reply) ~= 'table' then reply = {err = tostring(reply)} end
reply.err = string.gsub(string.gsub(reply.err, '^@user_script: ?%d+: ', 'ERR '), '^ERR %-', '')
return reply
