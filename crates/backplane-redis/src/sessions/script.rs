//! Scripts by which sessions change in one step.
//!
//! Each takes the key of a session and that of its record, in this order. The record is a hash: `e` is the epoch, `h`
//! the holder, `n` the namespace, `x` what Node's form has no place for, and `v` the digest of the value that was
//! written with it. A Node server claims a session by GET and DEL, and may write another one later. So a record without
//! a value, or with another value, is one of a session that a Node server has claimed.

/// Writes a session; the result is whether it was accepted.
///
/// Arguments: node, epoch, namespace, value, rest, time to live in milliseconds.
pub(super) const WRITE: &str = "\
local r = redis.call('HMGET', KEYS[2], 'e', 'h', 'v')
local e, mine = tonumber(r[1] or 0), tonumber(ARGV[2])
if r[1] then
  if e > mine and r[2] ~= ARGV[1] then return 0 end
  local v = redis.call('GET', KEYS[1])
  if not v or redis.sha1hex(v) ~= r[3] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[6])
redis.call('HSET', KEYS[2], 'e', math.max(e, mine), 'h', ARGV[1], 'n', ARGV[3], 'x', ARGV[5],
  'v', redis.sha1hex(ARGV[4]))
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 1";

/// Removes a session, unless another node or a Node server has claimed it.
///
/// Arguments: node, epoch.
pub(super) const REMOVE: &str = "\
local r = redis.call('HMGET', KEYS[2], 'e', 'h', 'v')
if not r[1] or tonumber(r[1]) > tonumber(ARGV[2]) and r[2] ~= ARGV[1] then return 0 end
local v = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[2])
if v and redis.sha1hex(v) == r[3] then redis.call('DEL', KEYS[1]) end
return 1";

/// Claims a session; the result is its value, new epoch, former holder, rest, and the number of notified nodes.
///
/// Arguments: node, namespace, time to live in milliseconds, first part of the holders' channels, secret.
pub(super) const CLAIM: &str = "\
local v = redis.call('GET', KEYS[1])
if not v then return false end
local r = redis.call('HMGET', KEYS[2], 'e', 'h', 'n', 'x', 'v')
local ours = r[1] and redis.sha1hex(v) == r[5]
if ours and r[3] ~= ARGV[2] then return false end
local e, told = tonumber(r[1] or 1) + 1, 0
if ours and r[2] ~= ARGV[1] then
  told = redis.call('PUBLISH', ARGV[4] .. r[2], e .. ' ' .. ARGV[5] .. ' ' .. ARGV[2])
end
redis.call('HSET', KEYS[2], 'e', e, 'h', ARGV[1], 'n', ARGV[2], 'x', ours and r[4] or '', 'v', redis.sha1hex(v))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {v, e, ours and r[2] or '', ours and r[4] or '', told}";

/// Returns whether a node holds a session: 1, [`CLAIMED`] or [`MISSING`].
///
/// Arguments: node, epoch.
pub(super) const CONFIRM: &str = "\
local r = redis.call('HMGET', KEYS[2], 'e', 'h', 'v')
if not r[1] then return 2 end
if tonumber(r[1]) > tonumber(ARGV[2]) and r[2] ~= ARGV[1] then return 0 end
local v = redis.call('GET', KEYS[1])
if not v or redis.sha1hex(v) ~= r[3] then return 0 end
return 1";

/// Another node has claimed the session.
pub(super) const CLAIMED: u64 = 0;
/// The session is not stored.
pub(super) const MISSING: u64 = 2;
