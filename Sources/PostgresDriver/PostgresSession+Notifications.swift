internal import CLibPQ
internal import Glibc

/// A message of NOTIFY.
struct PostgresNotification {
    let channel: String
    let payload: String
}

extension PostgresSession {
    /// Subscribes to channels. LISTEN takes no parameters; the caller has checked that the names need no quotes.
    func listen(to channels: [String]) throws(PostgresError) {
        try run(script: channels.map { "LISTEN \($0)" }.joined(separator: ";"))
    }

    /// Waits until the server has sent something, the other descriptor is readable, or the time is over.
    /// - Returns: whether the server has sent something.
    func awaitNotification(orWake descriptor: Int32, timeoutMilliseconds: Int) throws(PostgresError) -> Bool {
        guard let connection else { throw PostgresError(.closed, "the session has no connection") }
        var entries = [
            pollfd(fd: PQsocket(connection), events: Int16(POLLIN), revents: 0),
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        ]
        // A signal ends the wait early, which the caller takes for the time being over.
        guard poll(&entries, 2, Int32(clamping: timeoutMilliseconds)) > 0, entries[0].revents != 0 else { return false }
        guard PQconsumeInput(connection) == 1 else {
            let error = PostgresWire.lost(connection, outcomeUnknown: false)
            close()
            throw error
        }
        return true
    }

    /// Takes the notifications that were received so far.
    func takeNotifications() -> [PostgresNotification] {
        guard let connection else { return [] }
        var taken: [PostgresNotification] = []
        while let notification = PQnotifies(connection) {
            taken.append(
                PostgresNotification(
                    channel: String(cString: notification.pointee.relname),
                    payload: notification.pointee.extra.map { String(cString: $0) } ?? ""))
            PQfreemem(notification)
        }
        return taken
    }
}
