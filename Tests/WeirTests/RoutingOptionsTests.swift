import ArgumentParser
import TestSupport
import Testing

@testable import weir

@Suite("Routing on the command line")
struct RoutingOptionsTests {
    @Test("weights are read behind the last sign of equality")
    func weights() throws {
        let split = try ModelsCommand.Split.parse(["churn", "1.0.0=9000", "1.1.0=0", "--sticky-by", "session_id"])
        let body = try split.body()
        #expect(
            body.split == [
                ModelsCommand.Split.Share(version: "1.0.0", weight: 9_000),
                ModelsCommand.Split.Share(version: "1.1.0", weight: 0),
            ])
        #expect(body.stickyBy == "session_id")
        #expect(try ModelsCommand.Split.parse(["churn"]).body().split.isEmpty)
    }

    @Test(
        "weights that cannot be are refused", arguments: ["1.0.0", "1.0.0=", "=5", "1.0.0=10001", "1.0.0=-1", "a b=1"])
    func badWeight(text: String) {
        #expect(throws: (any Error).self) { try ModelsCommand.Split.parse(["churn", text]) }
    }

    @Test(
        "a mirror is somewhere or off, and a pin is set or ended",
        arguments: [
            (["models", "mirror", "m"], false), (["models", "mirror", "m", "--off"], true),
            (["models", "mirror", "m", "--off", "--to", "x"], false), (["models", "mirror", "m", "--to", "x"], true),
            (["models", "mirror", "m", "--version", "2", "--share", "0"], false), (["models", "set", "m"], false),
            (["models", "set", "m", "--unpin"], true),
            (["models", "set", "m", "--unpin", "--default-version", "1"], false),
            (["models", "version", "m", "latest"], false), (["models", "version", "m", "1.0.0", "--retire"], true),
            (["worker", "--ttl", "1"], false), (["worker", "--register", "--host", "0.0.0.0"], false),
            (["worker", "--register", "--host", "0.0.0.0", "--advertise", "10.0.0.5:9000"], true),
            (["worker", "--advertise", "http://x/path"], false), (["worker", "--weight", "1001"], false),
        ] as [([String], Bool)])
    func parsed(arguments: [String], isGood: Bool) {
        #expect(((try? Weir.parseAsRoot(arguments)) != nil) == isGood, "\(arguments)")
    }

    @Test("the wait after failures doubles to its end, is never without chance, and begins anew after a success")
    func backoff() {
        var random = SeededRandom(seed: 1)
        var backoff = RetryBackoff()
        for step: Int64 in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000] {
            #expect((step / 2...step).contains(backoff.failed(using: &random)))
        }
        backoff.succeeded()
        #expect((125...250).contains(backoff.failed(using: &random)))
        let waits = (0..<20).map { _ in
            var fresh = RetryBackoff()
            return fresh.failed(using: &random)
        }
        #expect(Set(waits).count > 5)
    }
}
