import Foundation

/// A linear model over a row of numbers. Immutable; one value serves all event loops.
struct TabularModel: Sendable, Equatable {
    enum Kind: String, Sendable {
        /// Softmax over one score per class; with a single row of coefficients, a sigmoid for the second of two
        /// classes.
        case logistic
        /// One number: the score itself.
        case linear
    }

    let name: String
    let version: String
    let kind: Kind
    let features: [String]
    /// Labels of a logistic model in the order of its probabilities; empty for a linear one.
    let classes: [String]
    /// `intercepts.count` rows of `features.count` numbers.
    let coefficients: [Double]
    let intercepts: [Double]

    /// What the model says about some rows.
    enum Evaluation: Equatable {
        /// Per row the position of the most probable class, and all rows' probabilities one after the other.
        case classes(positions: [Int], probabilities: [Double])
        /// Per row one number.
        case numbers([Double])
    }

    /// Evaluates rows of `features.count` values each.
    /// - Returns: `nil` if finite values led to a number that is not finite; JSON has no way to write it.
    func evaluate(_ values: [Double], rows: Int) -> Evaluation? {
        assert(values.count == rows * features.count)
        switch kind {
        case .linear:
            var numbers: [Double] = []
            numbers.reserveCapacity(rows)
            for row in 0..<rows {
                let number = score(values, row: row, output: 0)
                guard number.isFinite else { return nil }
                numbers.append(number)
            }
            return .numbers(numbers)
        case .logistic:
            var positions: [Int] = []
            var probabilities: [Double] = []
            positions.reserveCapacity(rows)
            probabilities.reserveCapacity(rows * classes.count)
            for row in 0..<rows {
                guard let position = appendProbabilities(values, row: row, to: &probabilities) else { return nil }
                positions.append(position)
            }
            return .classes(positions: positions, probabilities: probabilities)
        }
    }

    private func score(_ values: [Double], row: Int, output: Int) -> Double {
        let width = features.count
        var sum = intercepts[output]
        for column in 0..<width {
            sum += coefficients[output * width + column] * values[row * width + column]
        }
        return sum
    }

    /// - Returns: the position of the greatest probability, the first of equals, as scikit-learn does.
    private func appendProbabilities(_ values: [Double], row: Int, to probabilities: inout [Double]) -> Int? {
        let start = probabilities.count
        if intercepts.count == 1 {
            let score = score(values, row: row, output: 0)
            guard score.isFinite else { return nil }
            // Written for both signs of the score, so that the smaller of the two is not lost in 1 - 1.
            probabilities.append(1 / (1 + exp(score)))
            probabilities.append(1 / (1 + exp(-score)))
            return score > 0 ? 1 : 0
        }
        var greatest = -Double.infinity
        var position = 0
        for output in intercepts.indices {
            let score = score(values, row: row, output: output)
            guard score.isFinite else { return nil }
            if score > greatest {
                greatest = score
                position = output
            }
            probabilities.append(score)
        }
        // Shifted by the greatest score: softmax does not change, and exp cannot overflow.
        var total = 0.0
        for index in start..<probabilities.count {
            let power = exp(probabilities[index] - greatest)
            probabilities[index] = power
            total += power
        }
        for index in start..<probabilities.count { probabilities[index] /= total }
        return position
    }
}
