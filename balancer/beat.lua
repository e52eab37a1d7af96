-- One beat of one replica: what it reports goes in, what it must know comes out, in one round trip.
-- Redis 5 to 7; every key has the same hash tag, so that it runs in a cluster too. Redis TIME is
-- the only clock. test/sim/group.c says the same in C, and test/sim/lua_agree.py holds the two
-- together.
--
-- Happy path: expire what is overdue, read all records, book arrivals, releases, refusals and
-- losses, grant releases, write the own record, return everything.
--
-- Failure modes. A beat repeated because its answer got lost (same number) books nothing twice.
-- When the store forgot what it had acknowledged (emptied, failed over, evicted) or its clock
-- stepped, a new epoch begins, at which every replica stops releasing for a while. A record that
-- cannot be read is removed and reported.
--
-- Cost: one pass over the records (a thousand at most), and O(log n) for each name reported.
--
-- KEYS  1 epoch     string "since nonce"
--       2 records   hash   "id/incarnation" -> "seen since seq grant live payload"
--       3 flight    zset   node -> deadline; released on purpose, not seen since
--       4 meta      hash   node -> "refusals bridged donor"
--       5 away      hash   donor -> how many of its nodes are in flight
--       6 lost      zset   batch -> deadline; nodes nobody can name
--       7 lost_n    hash   batch -> how many
--       8 stat      hash   clock, landed, full, and "part count" of moves in h0 to h12
-- ARGV  1 own "id/incarnation"         2 number of this beat, from 1
--       3 last number acknowledged, 0  4 milliseconds since that beat was sent
--       5 period ms                    6 in-flight timeout ms
--       7 live                         8 payload: "version weight room state mode full"
--       9 is full (1, 0)              10 is leaving for good (1, 0)
--      11 wanted grant                12 fleet's cap in flight, parts per million
--      13 moves per hour, 0 = fleet   14 releases count as moves (1; 0: all were made in a drain)
--      15 connections lost            16 arrivals without name
--      17 nonce for a new epoch
--      18 list nodes in flight from this deadline on, '' = no list
--      19 skip so many of them        20 at most so many
--      21 nodes arrived  22 released  23 refused: how many names of each follow
--      24 so many of the released, the first ones, are bridged
--      25... names, then for each of the released: milliseconds since it was let go
local K_EPOCH, K_RECORDS, K_FLIGHT, K_META = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local K_AWAY, K_LOST, K_LOST_N, K_STAT = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local BACKWARD_MS, OVERDUE_MAX, LIST_MAX = 1000, 1000, 4000
local HOUR_PARTS, PART_MS = 12, 300000

local call = redis.call
if redis.replicate_commands then
    redis.replicate_commands() -- what Redis 5 to 7 need to write after TIME; gone later, where it is the only way
end

local function int(n)
    return string.format('%.0f', n)
end
local function arg(i)
    return tonumber(ARGV[i])
end

local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local me, seq, acked, quiet = ARGV[1], arg(2), arg(3), arg(4)
local period, timeout, live = arg(5), arg(6), arg(7)

local RECORD = '^(%d+) (%d+) (%d+) (%d+) (%d+) (.+)$'
local function parse(value)
    local seen, since, number, grant, count = string.match(value or '', RECORD)
    return tonumber(seen), tonumber(since), tonumber(number), tonumber(grant), tonumber(count)
end

-- 1. Is this still the store that answered last time?
local clock = tonumber(call('HGET', K_STAT, 'clock'))
local is_backward = clock and now < clock - BACKWARD_MS
if is_backward then
    call('DEL', K_EPOCH, K_RECORDS, K_FLIGHT, K_META, K_AWAY, K_LOST, K_LOST_N, K_STAT)
end
call('HSET', K_STAT, 'clock', int(now))

local own_value = call('HGET', K_RECORDS, me) or nil
local seen, since, known_seq = parse(own_value)
local epoch = call('GET', K_EPOCH)
local has_lost = acked > 0 and quiet < 2 * period and (not seen or known_seq < acked)
local has_stepped = seen and acked > 0 and known_seq == acked
    and math.abs(now - seen - quiet) > period + BACKWARD_MS
if not epoch or has_lost or has_stepped then
    epoch = int(now) .. ' ' .. ARGV[17]
    call('SET', K_EPOCH, epoch)
end

-- 2. What is overdue is no longer in flight.
local function forget(node)
    local donor = string.match(call('HGET', K_META, node) or '', '^%d+ %d (.+)$')
    call('ZREM', K_FLIGHT, node)
    call('HDEL', K_META, node)
    if donor and call('HINCRBY', K_AWAY, donor, -1) <= 0 then
        call('HDEL', K_AWAY, donor)
    end
end
for _, node in ipairs(call('ZRANGEBYSCORE', K_FLIGHT, '-inf', int(now), 'LIMIT', 0, OVERDUE_MAX)) do
    forget(node)
end
local function forget_batch(batch)
    call('ZREM', K_LOST, batch)
    call('HDEL', K_LOST_N, batch)
end
for _, batch in ipairs(call('ZRANGEBYSCORE', K_LOST, '-inf', int(now))) do
    forget_batch(batch)
end
local function add_lost(batch, count, deadline)
    if count > 0 then
        call('ZADD', K_LOST, int(deadline), batch)
        call('HINCRBY', K_LOST_N, batch, int(count))
    end
end

-- 3. The others. A record not renewed in three periods has expired: its connections are in flight.
-- One that this process replaces, by its id, needs half of that.
local own_id = string.match(me, '^(.*)/') or me
local records, bad, fleet, granted = {}, 0, live, 0
local all = call('HGETALL', K_RECORDS)
for i = 1, #all, 2 do
    local name, value = all[i], all[i + 1]
    if name ~= me then
        local r_seen, _, _, r_grant, r_live = parse(value)
        local age = r_seen and now - r_seen
        local is_mine = string.match(name, '^(.*)/') == own_id
        if not age or age < -period then
            bad = bad + 1
            call('HDEL', K_RECORDS, name)
        elseif age > 3 * period or (is_mine and age > 1.5 * period) then
            call('HDEL', K_RECORDS, name)
            add_lost('g:' .. name, r_live, now + timeout)
        else
            fleet, granted = fleet + r_live, granted + r_grant
            records[#records + 1] = name
            records[#records + 1] = value
        end
    end
end
if not seen then
    since = now
    forget_batch('g:' .. me) -- it was only away: what it holds is live again
end

-- 4. What happened since the last beat.
local moved = {}
local is_repeated = known_seq == seq
local per_hour = arg(13)
if is_repeated then -- who of them had been released went with the lost answer: say all
    for i = 1, arg(21) do
        moved[i] = i - 1
    end
else
    -- Losses first: a node that was lost and came back within one beat is not in flight.
    local bucket = math.ceil((now + timeout) / period) * period
    add_lost('l:' .. int(bucket), arg(15), bucket)

    local at, unnamed = 24, arg(16)
    for i = 1, arg(21) do
        local node = ARGV[at + i]
        if call('ZSCORE', K_FLIGHT, node) then
            forget(node)
            moved[#moved + 1] = i - 1
        else
            unnamed = unnamed + 1
        end
    end
    if #moved > 0 then
        call('HINCRBY', K_STAT, 'landed', #moved)
        -- Full before they came and still: what fills a replica up was needed there.
        local was_full = string.sub(own_value or '', -2) == ' 1'
        call('HINCRBY', K_STAT, 'full', was_full and ARGV[9] == '1' and #moved or 0)
    end
    while unnamed > 0 do
        local batch = call('ZRANGE', K_LOST, 0, 0)[1]
        if not batch then
            break
        end
        local count = tonumber(call('HGET', K_LOST_N, batch)) or 0
        if count <= unnamed then
            forget_batch(batch)
        else
            call('HINCRBY', K_LOST_N, batch, -unnamed)
        end
        unnamed = unnamed - count
    end

    at = at + arg(21)
    local ages, bridged = at + arg(22) + arg(23), arg(24)
    for i = 1, arg(22) do
        forget(ARGV[at + i])
        call('ZADD', K_FLIGHT, int(now + timeout - (arg(ages + i) or 0)), ARGV[at + i])
        call('HSET', K_META, ARGV[at + i], (i <= bridged and '0 1 ' or '0 0 ') .. me)
    end
    if arg(22) > 0 then
        call('HINCRBY', K_AWAY, me, ARGV[22])
    end

    at = at + arg(22)
    for i = 1, arg(23) do
        local node = ARGV[at + i]
        local refusals, rest = string.match(call('HGET', K_META, node) or '', '^(%d+)( .+)$')
        if refusals then
            call('HSET', K_META, node, int(refusals + 1) .. rest)
        end
    end
end

-- 5. The grant: no more in flight at once, and moved in an hour, than the whole fleet may.
local named = call('ZCOUNT', K_FLIGHT, '(' .. int(now), '+inf')
local anonymous = 0
for _, count in ipairs(call('HVALS', K_LOST_N)) do
    anonymous = anonymous + count
end
fleet = fleet + named + anonymous
if per_hour == 0 then
    per_hour = math.max(100, fleet)
end
-- Moves are counted in twelfths of an hour. With the one that runs, thirteen of them hold every
-- move of the last sixty minutes, and some older ones: no hour ever sees more than allowed.
local part, lately, fields = math.floor(now / PART_MS), 0, {}
for i = 0, HOUR_PARTS do
    fields[i + 1] = 'h' .. i
end
local slot = fields[part % (HOUR_PARTS + 1) + 1]
if not is_repeated and ARGV[14] == '1' and arg(22) > 0 then
    local of, count = string.match(call('HGET', K_STAT, slot) or '', '^(%d+) (%d+)$')
    count = tonumber(of) == part and tonumber(count) or 0
    call('HSET', K_STAT, slot, int(part) .. ' ' .. int(count + arg(22)))
end
for _, value in ipairs(call('HMGET', K_STAT, unpack(fields))) do
    local of, count = string.match(value or '', '^(%d+) (%d+)$')
    if of and part - of <= HOUR_PARTS then
        lately = lately + count
    end
end
local cap = math.max(1, math.floor(fleet * arg(12) / 1000000))
local grant = cap - named - anonymous - granted
grant = math.min(grant, per_hour - lately - granted)
grant = math.max(0, math.min(grant, arg(11)))

-- 6. The own record.
if ARGV[10] == '1' then
    call('HDEL', K_RECORDS, me)
else
    local mine = table.concat({ int(now), int(since), int(seq), int(grant), int(live), ARGV[8] }, ' ')
    call('HSET', K_RECORDS, me, mine)
    records[#records + 1] = me
    records[#records + 1] = mine
end
for i = 1, #KEYS do
    call('PEXPIRE', KEYS[i], int(10 * timeout))
end

-- 7. The answer. Scores of the listed nodes are their deadlines: released at deadline - timeout.
local listed, metas = {}, {}
if ARGV[18] ~= '' then
    listed = call('ZRANGEBYSCORE', K_FLIGHT, ARGV[18], '+inf', 'WITHSCORES', 'LIMIT', ARGV[19],
        int(math.min(arg(20), LIST_MAX)))
    local names = {}
    for i = 1, #listed, 2 do
        names[#names + 1] = listed[i]
    end
    if #names > 0 then
        metas = call('HMGET', K_META, unpack(names))
    end
end
local own = tonumber(call('HGET', K_AWAY, me)) or 0
local landed = call('HMGET', K_STAT, 'landed', 'full')
return { int(now), epoch, named, anonymous, own, grant, tonumber(landed[1]) or 0,
    tonumber(landed[2]) or 0, bad, records, moved, listed, metas }
