/// Columns of text for a terminal.
struct TextTable {
    let columns: [String]
    private(set) var rows: [[String]] = []

    init(_ columns: [String]) { self.columns = columns }

    /// Adds a row; missing values are shown as `-`.
    mutating func add(_ cells: [String?]) {
        rows.append(cells.map { cell in cell.map(SafeText.line).flatMap { $0.isEmpty ? nil : $0 } ?? "-" })
    }

    /// Left-aligned, numbers right-aligned, without trailing white space.
    var text: String {
        let widths = columns.indices.map { column in
            ([columns[column]] + rows.map { $0[column] }).map(\.count).max() ?? 0
        }
        let isNumeric = columns.indices.map { column in
            !rows.isEmpty
                && rows.allSatisfy { row in row[column] == "-" || row[column].allSatisfy { $0.isNumber || $0 == "." } }
        }
        func line(_ cells: [String]) -> String {
            let padded = cells.indices.map { column -> String in
                let space = String(repeating: " ", count: widths[column] - cells[column].count)
                return isNumeric[column] ? space + cells[column] : cells[column] + space
            }
            var line = padded.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }
        return ([line(columns.map { $0.uppercased() })] + rows.map(line)).joined(separator: "\n")
    }
}
