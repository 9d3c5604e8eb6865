internal import Domain
internal import HTTPListener

/// What a request's head wishes for its job, before anything is believed.
struct JobFields: Sendable, Equatable {
    /// The values of `x-weir-priority`.
    var priorities: [String] = []
    /// The values of `x-weir-run-at`.
    var instants: [String] = []

    /// - Throws: `bad_request` for a priority that is none from 0 to 9 and an instant that is none or too far ahead.
    func schedule(at now: Timestamp) throws(Refusal) -> JobSubmission.Schedule {
        var schedule = JobSubmission.Schedule()
        if let text = priorities.first {
            guard priorities.count == 1, text.utf8.count == 1, let number = Int16(text),
                JobSubmission.Schedule.priorities.contains(number)
            else {
                throw .unusableField(
                    "x-weir-priority", "must be one number from 0 to 9",
                    fix: "Leave it out for \(JobSubmission.Schedule.standardPriority); 9 comes first.")
            }
            schedule.priority = number
        }
        if let text = instants.first {
            guard instants.count == 1, let instant = Timestamp(rfc3339: text) else {
                throw .unusableField(
                    "x-weir-run-at", "must be one time with an offset and at most six digits of fraction",
                    fix: "Send it as 2026-03-01T00:00:00Z, or leave it out to run at once.")
            }
            guard instant.milliseconds(since: now) <= JobSubmission.delayLimitMilliseconds else {
                throw .unusableField(
                    "x-weir-run-at", "must be at most seven days ahead",
                    fix: "Send an earlier instant, or leave it out to run at once.")
            }
            schedule.runAt = instant
        }
        return schedule
    }
}

extension Refusal {
    fileprivate static func unusableField(_ name: String, _ message: String, fix: String) -> Refusal {
        Refusal(
            .badRequest, "\(name): \(message)", errors: [.init(location: name, message: message, fix: fix)])
    }
}

/// The lines of a head that go along with a job, in a form of our own: what they say about the cache, and the trace.
enum JobHead {
    /// More than any caller needs; the column has the same bound.
    static let byteLimit = 8_192

    /// - Throws: `headers_too_large`.
    static func text(_ call: InferenceCall) throws(Refusal) -> String {
        var lines = call.cacheFields.map { field in
            switch field {
            case .control(let text): "c:\(text)"
            case .use(let text): "u:\(text)"
            case .ttl(let text): "t:\(text)"
            case .label(let text): "l:\(text)"
            }
        }
        if let trace = call.trace {
            lines.append("p:\(trace.parent)")
            if let state = trace.state { lines.append("s:\(state)") }
        }
        let text = lines.joined(separator: "\n")
        guard text.utf8.count <= byteLimit else {
            throw Refusal(.headersTooLarge, "What the head says about cache and trace is too long. Send less.")
        }
        return text
    }

    static func read(_ text: String) -> (cacheFields: [CacheField], trace: TraceContext?) {
        var fields: [CacheField] = []
        var (parent, state): (String?, String?)
        for line in text.split(separator: "\n") where line.count >= 2 {
            let value = String(line.dropFirst(2))
            switch line.prefix(2) {
            case "c:": fields.append(.control(value))
            case "u:": fields.append(.use(value))
            case "t:": fields.append(.ttl(value))
            case "l:": fields.append(.label(value))
            case "p:": parent = value
            case "s:": state = value
            default: break
            }
        }
        return (fields, parent.flatMap { TraceContext(parent: $0, state: state) })
    }
}
