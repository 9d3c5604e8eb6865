import Dispatch
import Glibc

/// The signals with which a person or a supervisor stops a process, as a sequence.
///
/// Keep the object as long as the stream is read; its end restores nothing, because the process ends soon after.
final class StopSignals {
    /// Each SIGINT, SIGTERM or SIGHUP since the start; at most eight wait.
    let stream: AsyncStream<Int32>
    private let sources: [any DispatchSourceSignal]

    init() {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(8))
        self.stream = stream
        // Whoever started us with nohup wants us to outlive the terminal.
        let numbers = Self.isIgnored(SIGHUP) ? [SIGINT, SIGTERM] : [SIGINT, SIGTERM, SIGHUP]
        sources = numbers.map { number in
            // The default action would end the process before anybody was told.
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(number) }
            source.resume()
            return source
        }
    }

    deinit {
        for source in sources { source.cancel() }
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        sigaction(number, nil, &action)
        // SIG_IGN is the address 1 (signal.h of glibc); Swift has no comparison of C functions.
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }

    /// Waits for the next signal.
    func next() async -> Int32? {
        for await number in stream { return number }
        return nil
    }
}
