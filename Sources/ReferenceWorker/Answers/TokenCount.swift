/// What one inference used. A tabular model counts an input token per number that it was given, and an output token per
/// row that it answered. Wider than any honest count needs, and signed, because the fault models report what no honest
/// model does.
struct TokenCount: Equatable {
    let input: Int64
    let output: Int64

    init(input: Int64, output: Int64) {
        self.input = input
        self.output = output
    }

    init(values: Int, rows: Int) {
        self.init(input: Int64(values), output: Int64(rows))
    }
}
