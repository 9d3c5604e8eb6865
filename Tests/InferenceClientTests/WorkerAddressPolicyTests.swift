import Domain
import Testing

@testable import InferenceClient

@Suite("Permitted addresses of workers")
struct WorkerAddressPolicyTests {
    @Test(
        "loopback and private addresses are permitted by default",
        arguments: [
            "127.0.0.1", "127.255.255.255", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
            "::1",
            "fc00::1", "fd12:3456::1", "::ffff:10.1.2.3", "::ffff:7f00:1",
        ])
    func permitted(host: String) {
        #expect(WorkerAddressPolicy.standard.permits(numericHost: host))
    }

    @Test(
        "public and special addresses are not",
        arguments: [
            "8.8.8.8", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "11.0.0.0", "9.255.255.255",
            "126.0.0.1",
            "128.0.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "2001:db8::1",
            "::", "::2",
            "fe80::1", "ff02::1", "fb00::1", "fe00::1", "::ffff:8.8.8.8", "::ffff:169.254.169.254",
        ])
    func refused(host: String) {
        #expect(!WorkerAddressPolicy.standard.permits(numericHost: host))
    }

    @Test(
        "link-local, multicast and this-network addresses are refused even if everything is listed",
        arguments: [
            "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255",
            "fe80::1",
            "febf::1", "ff02::1", "::", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
        ])
    func never(host: String) throws {
        let everything = try #require(WorkerAddressPolicy(allowing: ["0.0.0.0/0", "::/0"]))
        #expect(!everything.permits(numericHost: host))
        #expect(everything.permits(numericHost: "8.8.8.8") && everything.permits(numericHost: "2001:db8::1"))
    }

    @Test(
        "only four decimal numbers are an IPv4 address",
        arguments: [
            "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "127.0.0.01", "127.0.0.1.",
            "127.0.0",
            "127.0.0.256", "127.0.0.1000", "127..0.1", "127.0.0.1 ", " 127.0.0.1", "127.0.0.0x1",
            "1.0.0.127.in-addr.0x1",
        ])
    func notations(host: String) {
        #expect(!WorkerAddressPolicy.standard.permits(numericHost: host))
        guard case .refused = WorkerAddressPolicy.standard.target(of: WorkerAddress(host: host, port: 80)) else {
            Issue.record("\(host) is not refused")
            return
        }
    }

    @Test(
        "names are looked up",
        arguments: ["localhost", "worker-1.models.internal", "a", "x1.2y", "worker_2", "host.example."])
    func names(host: String) {
        guard case .named = WorkerAddressPolicy.standard.target(of: WorkerAddress(host: host, port: 80)) else {
            Issue.record("\(host) is not a name")
            return
        }
    }

    @Test(
        "what is neither a name nor an address is refused",
        arguments: ["", ".", "a..b", "a b", "fe80::1%eth0", "a/b", "ä.de", "a\r\n"])
    func neither(host: String) {
        guard case .refused = WorkerAddressPolicy.standard.target(of: WorkerAddress(host: host, port: 80)) else {
            Issue.record("\(host) is not refused")
            return
        }
    }

    @Test("a port outside 1 to 65535 is refused", arguments: [0, -1, 65_536])
    func ports(port: Int) {
        guard case .refused = WorkerAddressPolicy.standard.target(of: WorkerAddress(host: "127.0.0.1", port: port))
        else {
            Issue.record("port \(port) is not refused")
            return
        }
    }

    @Test("a listed block permits exactly its addresses")
    func blocks() throws {
        let policy = try #require(
            WorkerAddressPolicy(allowing: ["203.0.113.64/26", "2001:db8:1::/48", "198.51.100.7"]))
        for host in ["203.0.113.64", "203.0.113.127", "2001:db8:1::", "2001:db8:1:ffff::1", "198.51.100.7"] {
            #expect(policy.permits(numericHost: host), "\(host)")
        }
        for host in ["203.0.113.63", "203.0.113.128", "2001:db8:2::", "2001:db8::1", "198.51.100.8", "127.0.0.1"] {
            #expect(!policy.permits(numericHost: host), "\(host)")
        }
    }

    @Test(
        "what is no block is refused",
        arguments: [
            "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "10/8", "x", "",
            "10.0.0.0/8/8",
        ])
    func notABlock(text: String) {
        #expect(WorkerAddressPolicy(allowing: [text]) == nil)
    }
}
