import Domain
import Foundation
import InferenceClient
import Logging
import NIOCore
import PostgresDriver
import RedisDriver

/// What the text of a setting may be.
enum SettingKind: Sendable {
    case integer(ClosedRange<Int>)
    /// Seconds with at most three decimal places; the range is in milliseconds, and so is the value.
    case seconds(ClosedRange<Int>)
    case boolean
    case host
    case port
    case logLevel
    case roles
    case networks
    case databaseURL
    case redisURL
    case httpURL
    case path
    /// Letters, digits, points, hyphens and underscores.
    case word
    case secret(minimumBytes: Int)
    case adminKey
}

/// What became of a setting's text.
enum SettingValue: Sendable, Equatable {
    case text(String)
    case number(Int)
    case boolean(Bool)
    case logLevel(Logger.Level)
    case roles(Set<ServerRole>)
    case networks([String])
}

/// Why a text was refused: what would have been right.
struct BadSetting: Error, Equatable {
    let expected: String
}

/// What one process of the server does.
enum ServerRole: String, Sendable, CaseIterable {
    /// The public listener and the request pipeline.
    case gateway
    /// The admin listener.
    case admin
    /// Background services.
    case jobs
    /// Runs asynchronous jobs.
    case dispatcher
}

extension SettingKind {
    /// Reads a text, without surrounding white space.
    func read(_ text: String) throws(BadSetting) -> SettingValue {
        switch self {
        case .integer(let range):
            guard let number = wholeNumber(text), range.contains(number) else {
                throw BadSetting(expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return .number(number)
        case .seconds(let range):
            guard let milliseconds = millisecondsOfSeconds(text), range.contains(milliseconds) else {
                throw BadSetting(
                    expected:
                        "seconds from \(decimalSeconds(range.lowerBound)) to \(decimalSeconds(range.upperBound)), as in 30 or 0.5"
                )
            }
            return .number(milliseconds)
        case .port:
            guard let number = wholeNumber(text), (0...65_535).contains(number) else {
                throw BadSetting(expected: "a port from 0 to 65535, where 0 takes any free one")
            }
            return .number(number)
        case .boolean: return .boolean(try readBoolean(text))
        case .logLevel:
            guard let level = Logger.Level(rawValue: text.lowercased()) else {
                throw BadSetting(expected: "one of trace, debug, info, notice, warning, error, critical")
            }
            return .logLevel(level)
        case .roles: return .roles(try readRoles(text))
        case .networks: return .networks(try readNetworks(text))
        case .host, .path, .databaseURL, .redisURL, .httpURL, .word, .secret, .adminKey:
            return .text(try readText(text))
        }
    }

    private func readText(_ text: String) throws(BadSetting) -> String {
        switch self {
        case .host:
            guard isHost(text) else { throw BadSetting(expected: "an IP address or a host name, without a port") }
        case .databaseURL:
            let expected = "postgresql://user:password@host:port/database, special characters percent-encoded"
            guard let url = DatabaseURL(text) else { throw BadSetting(expected: expected) }
            do throws(PostgresError) {
                _ = try PostgresConfiguration(url: url.text)
            } catch {
                // The driver names the part that is wrong and never its value.
                throw BadSetting(expected: "\(expected) (\(error.message))")
            }
            return url.text
        case .redisURL:
            do throws(RedisError) {
                _ = try RedisConfiguration(url: text)
            } catch {
                throw BadSetting(
                    expected: "redis://:password@host:port/0, rediss://… for TLS or unix:///path/to/socket (\(error))")
            }
        case .httpURL:
            guard isListenerURL(text) else {
                throw BadSetting(expected: "http://host:port or https://host:port, without a path")
            }
            return text.hasSuffix("/") ? String(text.dropLast()) : text
        case .word:
            guard (1...100).contains(text.utf8.count),
                text.utf8.allSatisfy({
                    (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                        || [0x2D, 0x2E, 0x5F].contains($0)
                })
            else { throw BadSetting(expected: "a word of letters, digits, points, hyphens and underscores") }
        case .secret(let minimumBytes):
            guard text.utf8.count >= minimumBytes, Set(text.utf8).count > 1 else {
                throw BadSetting(
                    expected:
                        "at least \(minimumBytes) bytes that are not one repeated character; `openssl rand -hex 32` makes a good one"
                )
            }
        case .adminKey:
            guard let key = APIKey(parsing: text.utf8), key.environment == .admin else {
                throw BadSetting(expected: "an admin key, weir_admn_… with all of its 61 characters")
            }
        default: break
        }
        return text
    }
}

private func readBoolean(_ text: String) throws(BadSetting) -> Bool {
    switch text.lowercased() {
    case "true", "1", "yes", "on": return true
    case "false", "0", "no", "off": return false
    default: throw BadSetting(expected: "true or false")
    }
}

private func readRoles(_ text: String) throws(BadSetting) -> Set<ServerRole> {
    var roles: Set<ServerRole> = []
    for word in commaSeparated(text) {
        guard let role = ServerRole(rawValue: word) else {
            throw BadSetting(expected: "a list of gateway, admin, jobs, dispatcher, separated by commas")
        }
        roles.insert(role)
    }
    guard !roles.isEmpty else { throw BadSetting(expected: "at least one of gateway, admin, jobs, dispatcher") }
    return roles
}

private func readNetworks(_ text: String) throws(BadSetting) -> [String] {
    let blocks = commaSeparated(text)
    guard !blocks.isEmpty else { throw BadSetting(expected: "at least one network, as in 127.0.0.0/8") }
    guard WorkerAddressPolicy(allowing: blocks) != nil else {
        throw BadSetting(
            expected: "networks separated by commas, as in 10.0.0.0/8,fc00::/7, with no bits set behind the prefix")
    }
    return blocks
}

private func commaSeparated(_ text: String) -> [String] {
    text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
}

/// A plain decimal number. `Int("+5")` would accept a sign, and a sign in a port is a typing error.
private func wholeNumber(_ text: String) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int(text)
}

/// Seconds with at most three decimal places, as whole milliseconds; no floating point between text and time.
private func millisecondsOfSeconds(_ text: String) -> Int? {
    let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let whole = wholeNumber(parts[0]), whole <= 1_000_000_000 else { return nil }
    guard parts.count == 2 else { return whole * 1_000 }
    guard (1...3).contains(parts[1].utf8.count) else { return nil }
    let padded = parts[1] + String(repeating: "0", count: 3 - parts[1].utf8.count)
    return wholeNumber(padded).map { whole * 1_000 + $0 }
}

/// Milliseconds as seconds, without trailing zeros.
private func decimalSeconds(_ milliseconds: Int) -> String {
    let rest = milliseconds % 1_000
    guard rest != 0 else { return String(milliseconds / 1_000) }
    var digits = String(repeating: "0", count: 3 - String(rest).count) + String(rest)
    while digits.hasSuffix("0") { digits.removeLast() }
    return "\(milliseconds / 1_000).\(digits)"
}

private func isHost(_ text: String) -> Bool {
    if text.contains(":") { return (try? SocketAddress(ipAddress: text, port: 0)) != nil }
    return !text.isEmpty && text.utf8.count <= 253
        && text.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"): true
            default: false
            }
        }
}

/// `http://host:port` or `https://host:port`, and nothing behind it but a slash.
private func isListenerURL(_ text: String) -> Bool {
    guard let parts = URLComponents(string: text), let scheme = parts.scheme?.lowercased(),
        ["http", "https"].contains(scheme),
        let host = parts.host, !host.isEmpty, parts.port.map({ (1...65_535).contains($0) }) ?? true
    else { return false }
    return (parts.path.isEmpty || parts.path == "/") && parts.query == nil && parts.user == nil && parts.fragment == nil
}
