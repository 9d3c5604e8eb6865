internal import Domain
internal import HTTPListener
internal import NIOCore

/// A request as HTTP gave it, before anything is believed.
struct InferenceCall: Sendable {
    let requestID: RequestID
    let receivedAt: Timestamp
    let receivedNanoseconds: UInt64
    let credentials: Credentials
    let body: ByteBuffer
    let trace: TraceContext?
    var target = CallTarget.predict
    /// The values of the header `Idempotency-Key`; nearly always none.
    var idempotencyFields: [String] = []
    /// What the head says about the cache; nearly always nothing.
    var cacheFields: [CacheField] = []
    /// The values of the header `x-weir-tags`; nearly always none.
    var tagFields: [String] = []
    /// What the head wishes for a job: always checked, heeded where the target is asynchronous.
    var jobFields = JobFields()
    /// Which proof of its charge the answer is to carry; nearly always unsaid.
    var receipt = ReceiptWish.unsaid
    /// Of a job that runs: its rate limits were taken at submission, and its row is not this request's to write but by completing it.
    var attempt: JobAttempt?
}

/// What the caller presented to say who it is.
enum Credentials: Sendable, Equatable {
    case none
    case one([UInt8])
    /// Two different credentials: which one pays would be a guess.
    case conflicting
    /// Something that is no bearer token, as `Basic …`.
    case unusable
}

/// W3C Trace Context, continued towards the worker (https://www.w3.org/TR/trace-context/).
struct TraceContext: Sendable, Equatable {
    /// Version 00: `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id all zeros.
    let parent: String
    let state: String?

    init?(parent: String, state: String?) {
        let bytes = Array(parent.utf8)
        guard bytes.count == 55, bytes[2] == 0x2D, bytes[35] == 0x2D, bytes[52] == 0x2D,
            bytes.starts(with: Array("00-".utf8))
        else {
            return nil
        }
        let isHexadecimal = { (range: Range<Int>) in
            bytes[range].allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        }
        guard isHexadecimal(3..<35), isHexadecimal(36..<52), isHexadecimal(53..<55),
            !bytes[3..<35].allSatisfy({ $0 == 0x30 }), !bytes[36..<52].allSatisfy({ $0 == 0x30 })
        else { return nil }
        self.parent = parent
        self.state = state.flatMap {
            $0.utf8.count <= 512 && $0.utf8.allSatisfy { (0x20...0x7E).contains($0) } ? $0 : nil
        }
    }
}

/// Nanoseconds spent in each stage, for `Server-Timing` and the metrics.
struct StageTimings: Sendable {
    var authenticate: UInt64 = 0
    /// Reading the body and finding the model.
    var route: UInt64 = 0
    var quota: UInt64 = 0
    var upstream: UInt64 = 0
    var settle: UInt64 = 0
}

/// A prediction that is settled and may leave.
struct Prediction: Sendable {
    let requestID: RequestID
    let surface: Surface
    let model: String
    let version: String
    /// JSON of the worker's own answer; where the surface passes answers on as they are, all of it.
    let prediction: ByteBuffer
    let probabilities: ByteBuffer?
    let usage: Usage
    let cost: Micros?
    let currency: String
    let priceVersion: String
    let limits: [LimitReading]
    let degradations: [String]
    let timings: StageTimings
    /// `nil` where the model has no cache.
    var cache: CacheStatus?
    /// What the worker said, where it was written otherwise for the caller.
    var workersAnswer: ByteBuffer?
    /// Where the JSON of the body ends and binary data begin; `nil` where there are none.
    var jsonByteCount: Int?
    /// Of an answer that is no JSON; `prediction` is then all of it.
    var mediaType: String?
    /// ASCII of the receipt; `nil` where there is none.
    var receipt: [UInt8]?
    /// Whether no worker was asked for it.
    var isCached: Bool { cache?.isServedFromCache ?? false }
}

/// What the head of a stream says; how it ends is not known yet.
struct StreamHead: Sendable {
    let requestID: RequestID
    let model: String
    let version: String
    let limits: [LimitReading]
    let degradations: [String]
    let timings: StageTimings
}

/// One policy's numbers for the headers that show limits.
struct LimitReading: Sendable {
    let policy: String
    let unit: RateUnit
    let limit: Int64
    let remaining: Int64
    /// `nil` where nothing begins anew.
    let resetSeconds: Int64?
    let windowSeconds: Int64?
    /// Use went on beyond a limit that does not refuse.
    var isExceeded = false
}

extension LimitReading {
    init(quota: Quota, remaining: Int64, resetSeconds: Int64, windowSeconds: Int64, isExceeded: Bool = false) {
        let recurs = quota.frequency.recurs
        let unit: RateUnit = if case .tokens = quota.unit { .tokens } else { .requests }
        self.init(
            policy: quota.policy, unit: unit, limit: quota.amount,
            remaining: remaining, resetSeconds: recurs ? resetSeconds : nil,
            windowSeconds: recurs ? windowSeconds : nil,
            isExceeded: isExceeded)
    }
}

/// The end of the pipeline.
enum InferenceOutcome: Sendable {
    case answered(Prediction)
    /// The answer of an earlier request with the same key, once more; nothing was done and nothing is charged.
    case replayed(KeptAnswer, limits: [LimitReading])
    case refused(Refusal, RequestID)
    /// The answer is to be fetched later.
    case queued(AcceptedJob)
    /// All of it has been written, piece by piece.
    case streamed
}
