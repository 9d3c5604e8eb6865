internal import Domain

/// What a caller is told where no replica answered. Nothing names a worker, and nothing is charged but what a tier charges for an input that
/// a worker refused.
enum DeliveryRefusals {
    /// No replica had a place.
    static func busy(_ obstacle: ModelDelivery.Obstacle, model: String) -> Refusal {
        let cause =
            switch obstacle {
            case .lineIsFull: "the model's line is full"
            case .waitedTooLong: "waited too long for a replica"
            case .cancelled: "given up while waiting for a replica"
            }
        return Refusal(
            .overloaded, "All workers of the model \(model) are busy. Nothing was charged; try again in a second.",
            retryAfterSeconds: 1, cause: cause)
    }

    static func refusal(of failed: Dispatch.FailedAttempt, model: String, policy: DeliveryPolicy) -> Refusal {
        switch failed.failure {
        case .notSent:
            Refusal(
                .noHealthyWorker, "No worker of the model \(model) can be reached. Try again in a few seconds.",
                retryAfterSeconds: 2, cause: failed.cause)
        case .crowded, .cancelled:
            Refusal(
                .noHealthyWorker, "The model's workers are all busy. Try again in a second.", retryAfterSeconds: 1,
                cause: failed.cause)
        case .busy:
            Refusal(
                .noHealthyWorker, "The model's workers cannot take requests just now. Try again in a few seconds.",
                retryAfterSeconds: 2, cause: failed.cause)
        case .silent:
            Refusal(
                .upstreamTimeout,
                "The model's worker did not answer within \(policy.totalMilliseconds) milliseconds. Nothing was charged.",
                cause: failed.cause)
        case .broken, .nonsense, .serverError:
            Refusal(
                .badUpstream, "The model's worker gave an answer that cannot be used. Nothing was charged.",
                cause: failed.cause)
        case .callersFault: callersFault(failed, model: model)
        }
    }

    /// The worker's own words are left out: they may hold anything.
    ///
    /// Only what speaks of the input is the caller's own fault. That a worker does not have the model, or does not know this gateway, is the
    /// installation's.
    private static func callersFault(_ failed: Dispatch.FailedAttempt, model: String) -> Refusal {
        var refusal = refusal(ofStatus: failed, model: model)
        refusal.isRefusedInput = failed.isRefusedInput
        return refusal
    }

    private static func refusal(ofStatus failed: Dispatch.FailedAttempt, model: String) -> Refusal {
        switch failed.status {
        case 400, 422:
            Refusal(
                .validationFailed,
                "The model \(model) refused the input. Check the number and the kind of the features. Nothing was charged.",
                errors: [
                    Refusal.FieldError(
                        location: "/features", message: "was refused by the model",
                        fix: "Send what the model was trained on; its documentation tells.")
                ], cause: failed.cause)
        case 404:
            Refusal(
                .modelNotFound,
                "The worker does not have the model \(model), or not in this version. Ask the operator. Nothing was charged.",
                cause: failed.cause)
        case 413:
            Refusal(
                .requestTooLarge, "The request is too large for the model \(model). Send fewer rows at once.",
                cause: failed.cause)
        default:
            Refusal(
                .badUpstream, "The model's worker gave an answer that cannot be used. Nothing was charged.",
                cause: failed.cause)
        }
    }
}
