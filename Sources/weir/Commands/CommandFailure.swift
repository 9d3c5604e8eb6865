/// How a command ends; the numbers above 1 are those of sysexits.h.
enum ExitStatus: Int32 {
    case done = 0
    /// The operation was refused or failed.
    case failed = 1
    /// `weir verify` could not try: a wrong option, a file that cannot be read.
    case untried = 2
    case usage = 64
    /// A service that the command needs cannot be reached.
    case unavailable = 69
    case configuration = 78
}

/// Ends a command with a line for a person. No secret stands in it.
struct CommandFailure: Error, CustomStringConvertible {
    let message: String
    let status: ExitStatus

    init(_ message: String, status: ExitStatus = .failed) {
        self.message = message
        self.status = status
    }

    var description: String { message }
}
