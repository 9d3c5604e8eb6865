/// The script that owns rate limits in Redis: `RateAccount.exchange` in Lua, which holds it to the same tests.
///
/// Each scope is one hash: `r` and `t` are the theoretical arrival times of requests and tokens, `p` is when somebody was refused last, and
/// every gateway that holds something has a field with its lease: `end:requests:tokens:slots`. Lua's numbers are exact up to 2^53; nothing
/// here is larger, and nothing is ever divided but by four, rounded down.
enum RateScript {
    /// The server's own clock, in microseconds since 1970.
    static let serverClock = """
        local clock = redis.call('TIME')
        local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
        """

    /// KEYS: one hash for each demand. ARGV: gateway, lifetime in microseconds, then 15 numbers for each demand: the capacities (-1 is no
    /// limit), whether the lease is unbroken, two amounts spent, three kept, three needed, three wanted.
    /// Answers whether it was granted, else the number of the demand and unit and the wait, then three amounts held and three free of each.
    static func source(clock: String = serverClock) -> String {
        clock + "\n" + body
    }

    private static let body = """
        local gateway, lifetime = ARGV[1], tonumber(ARGV[2])
        local shortDemand, shortUnit, longest = 0, 0, -1
        local demands = {}

        local function integer(value) return string.format('%.0f', value) end

        for i = 1, #KEYS do
            local base = 2 + (i - 1) * 15
            local function numbers(first)
                return {tonumber(ARGV[base + first]), tonumber(ARGV[base + first + 1]), tonumber(ARGV[base + first + 2])}
            end
            local d = {capacity = numbers(1), kept = numbers(7), minimum = numbers(10), wanted = numbers(13), others = {0, 0, 0},
                arrival = {0, 0}, refused = 0, gone = {}}
            local continuous = ARGV[base + 4] == '1'
            local spent = {tonumber(ARGV[base + 5]), tonumber(ARGV[base + 6])}
            local lapsed, lapsedAt = {0, 0}, 0
            local fields = redis.call('HGETALL', KEYS[i])
            for j = 1, #fields, 2 do
                local field, value = fields[j], fields[j + 1]
                if field == 'r' then
                    d.arrival[1] = tonumber(value)
                elseif field == 't' then
                    d.arrival[2] = tonumber(value)
                elseif field == 'p' then
                    d.refused = tonumber(value)
                else
                    local ends, requests, tokens, slots = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
                    ends, requests, tokens, slots = tonumber(ends), tonumber(requests), tonumber(tokens), tonumber(slots)
                    local own = field == gateway
                    if not ends then
                        d.gone[#d.gone + 1] = field
                    elseif (own and not continuous) or (not own and ends <= now) then
                        d.gone[#d.gone + 1] = field
                        lapsed[1], lapsed[2] = lapsed[1] + requests, lapsed[2] + tokens
                        lapsedAt = math.max(lapsedAt, math.min(ends, now))
                    elseif not own then
                        d.others[1], d.others[2], d.others[3] = d.others[1] + requests, d.others[2] + tokens, d.others[3] + slots
                    end
                end
            end
            d.level = {0, 0}
            for unit = 1, 2 do
                if d.capacity[unit] >= 0 then
                    local ceiling = now + d.capacity[unit]
                    local arrival = math.min(math.max(d.arrival[unit], lapsedAt) + lapsed[unit], ceiling)
                    d.arrival[unit] = math.min(math.max(arrival, now) + spent[unit], ceiling)
                    d.level[unit] = d.arrival[unit] - now
                else
                    d.arrival[unit] = 0
                end
            end
            for unit = 1, 3 do
                if d.capacity[unit] >= 0 and d.minimum[unit] > d.kept[unit] then
                    local lack = d.minimum[unit] - (d.capacity[unit] - d.others[unit] - (d.level[unit] or 0))
                    local wait = lack
                    if unit == 3 then wait = 0 end
                    if lack > 0 and longest < wait then
                        shortDemand, shortUnit, longest = i, unit, wait
                    end
                end
            end
            demands[i] = d
        end

        local isRefused = shortDemand > 0
        local answer = {isRefused and 0 or 1, shortDemand, shortUnit, math.max(longest, 0)}
        for i = 1, #KEYS do
            local d = demands[i]
            local isScarce = isRefused or now - d.refused < lifetime
            local held, free = {0, 0, 0}, {0, 0, 0}
            for unit = 1, 3 do
                if d.capacity[unit] >= 0 then
                    local room = d.capacity[unit] - d.others[unit] - (d.level[unit] or 0)
                    held[unit] = isRefused and d.kept[unit] or math.max(d.minimum[unit], d.kept[unit])
                    if not isScarce then
                        local spare = math.floor(math.max(0, room - held[unit]) / 4)
                        held[unit] = math.max(held[unit], math.min(d.wanted[unit], held[unit] + spare))
                    end
                    free[unit] = room - held[unit]
                end
            end
            if isRefused then d.refused = now end
            if #d.gone > 0 then redis.call('HDEL', KEYS[i], unpack(d.gone)) end
            redis.call('HSET', KEYS[i], 'r', integer(d.arrival[1]), 't', integer(d.arrival[2]), 'p', integer(d.refused))
            if held[1] + held[2] + held[3] > 0 then
                redis.call('HSET', KEYS[i], gateway,
                    integer(now + lifetime) .. ':' .. integer(held[1]) .. ':' .. integer(held[2]) .. ':' .. integer(held[3]))
            else
                redis.call('HDEL', KEYS[i], gateway)
            end
            local rest = math.max(d.level[1], d.level[2], d.capacity[1], d.capacity[2], 0) + lifetime
            redis.call('PEXPIRE', KEYS[i], integer(math.ceil(rest / 1000) + 1000))
            for unit = 1, 3 do answer[#answer + 1] = held[unit] end
            for unit = 1, 3 do answer[#answer + 1] = free[unit] end
        end
        return answer
        """
}
