import Foundation
import Glibc

/// A process that an earlier `weir dev` started, remembered so that its successor can end it.
struct RememberedChild: Codable, Sendable, Equatable {
    let name: String
    let processID: Int32
    /// Clock ticks from the machine's start to the process's. Process numbers come round again; together with this they
    /// do not.
    let startTicks: String

    private enum CodingKeys: String, CodingKey {
        case name
        case processID = "pid"
        case startTicks = "start_ticks"
    }

    /// Remembers a process that runs now.
    init?(name: String, processID: Int32) {
        guard let ticks = Self.startTicks(of: processID) else { return nil }
        self.name = name
        self.processID = processID
        self.startTicks = ticks
    }

    /// Whether that very process still runs.
    var isRunning: Bool { Self.startTicks(of: processID) == startTicks }

    /// Field 22 of /proc/PID/stat (proc(5)); `nil` if there is no such process or only its exit status is left.
    private static func startTicks(of processID: Int32) -> String? {
        guard let text = try? String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8) else { return nil }
        return startTicks(inStat: text)
    }

    /// The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    static func startTicks(inStat text: String) -> String? {
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z" else { return nil }
        return String(fields[19])
    }
}

/// Ends what a killed `weir dev` left behind: gateways first, PostgreSQL last.
enum Leftovers {
    static func stop(recordedAt path: String, clusterFolder: String, report: (String) -> Void) async throws {
        var remembered: [RememberedChild] = []
        if let data = try? Data(contentsOf: URL(fileURLWithPath: path)) {
            remembered = (try? JSONDecoder().decode([RememberedChild].self, from: data)) ?? []
        }
        if let postmaster = postmaster(of: clusterFolder),
            !remembered.contains(where: { $0.processID == postmaster.processID })
        {
            remembered.insert(postmaster, at: 0)
        }
        for child in remembered.reversed() where child.isRunning {
            report("Stopping \(child.name) (process \(child.processID)), which an earlier weir dev left behind")
            // SIGINT is PostgreSQL's fast shutdown: it rolls back what is open and writes everything down.
            kill(child.processID, child.name == "postgres" ? SIGINT : SIGTERM)
            if await hasEnded(child, within: 40_000) { continue }
            kill(child.processID, child.name == "postgres" ? SIGQUIT : SIGKILL)
            guard await hasEnded(child, within: 10_000) else {
                throw CommandFailure(
                    "\(child.name) (process \(child.processID)) of an earlier weir dev does not stop: end it first")
            }
        }
        unlink(path)
    }

    /// The server that runs on a cluster, by the first line of its postmaster.pid.
    private static func postmaster(of clusterFolder: String) -> RememberedChild? {
        guard let text = try? String(contentsOfFile: clusterFolder + "/postmaster.pid", encoding: .utf8),
            let line = text.split(separator: "\n").first, let processID = Int32(line), processID > 1,
            // The number may belong to somebody else by now; a server works inside its cluster's folder.
            let folder = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(processID)/cwd"),
            folder == resolved(clusterFolder)
        else { return nil }
        return RememberedChild(name: "postgres", processID: processID)
    }

    /// The path without symbolic links, as the kernel tells it.
    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static func hasEnded(_ child: RememberedChild, within milliseconds: Int) async -> Bool {
        var remaining = milliseconds
        while child.isRunning, remaining > 0 {
            await Pause.uninterrupted(milliseconds: 20)
            remaining -= 20
        }
        return !child.isRunning
    }
}
