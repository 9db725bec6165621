// The retention rule: how far apart restorable points may lie, by their age. Pure.
//
//   every 24h, 1m 7d, 1h 30d, 1d 1y
//
// Rungs `SPACING SPAN`, from young to old. A point belongs to the first rung whose span its age
// does not pass; a point older than the last span goes away. SPACING is one of
//
//   every      each write stays a point
//   duration   points stay that were the state of the volume at a line of the grid: a wall time
//              that is a multiple of the spacing since 1970-01-01 UTC
//   newest     no point stays for its age; of each sector the newest entry does
//
// Each spacing is a multiple of the one before. So each line of a coarse grid is one of the finer
// grids, and what a young rung dropped no older rung can ask for: it does not matter how often and
// when history is thinned.

/// A ladder; never empty.
public struct Ladder: Hashable, Sendable {
    public enum Spacing: Hashable, Sendable {
        case every
        /// Nanoseconds, above 0.
        case grid(Int64)
        case newest
    }

    public struct Rung: Hashable, Sendable {
        public var spacing: Spacing
        /// The greatest age, in nanoseconds.
        public var span: Int64

        public init(spacing: Spacing, span: Int64) {
            self.spacing = spacing
            self.span = span
        }
    }

    public let rungs: [Rung]

    /// The greatest age that any point may have.
    public var lastSpan: Int64 { rungs[rungs.count - 1].span }
    /// Up to which age each write stays a point; nil where thinning begins at once.
    public var everySpan: Int64? { rungs[0].spacing == .every ? rungs[0].span : nil }

    /// For rungs that are known to be in order.
    init(unchecked rungs: [Rung]) { self.rungs = rungs }

    /// Checks the order of the rungs.
    public init(_ rungs: [Rung]) throws(LadderError) {
        guard !rungs.isEmpty else { throw .empty }
        for (before, rung) in zip(rungs, rungs.dropFirst()) {
            let (old, new) = (Self.text(before.span), Self.text(rung.span))
            guard rung.span > before.span else { throw .spanNotRising(new, after: old) }
            switch (before.spacing, rung.spacing) {
            case (.newest, _): throw .behindNewest
            case (_, .every): throw .everyNotFirst
            case (.grid(let fine), .grid(let coarse)):
                let (fineText, coarseText) = (Self.text(fine), Self.text(coarse))
                guard coarse > fine else { throw .spacingNotRising(coarseText, after: fineText) }
                guard coarse % fine == 0 else { throw .noMultiple(coarseText, of: fineText) }
            default: continue
            }
        }
        self.rungs = rungs
    }

    /// Reads `every 24h, 1m 7d`; blanks around commas do not matter.
    public init(parsing text: String) throws(LadderError) {
        var rungs: [Rung] = []
        if text.allSatisfy({ $0 == " " }) { throw .empty }
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let words = part.split(separator: " ")
            guard words.count == 2 else { throw .notARung(String(part)) }
            let spacing: Spacing =
                switch words[0] {
                case "every": .every
                case "newest": .newest
                default: .grid(try Self.nanoseconds(words[0]))
                }
            rungs.append(Rung(spacing: spacing, span: try Self.nanoseconds(words[1])))
        }
        try self.init(rungs)
    }

    /// The rung of a point of that age; nil beyond the last span. What lies ahead of now is young.
    func rung(age: Int64) -> Rung? { rungs.first { age <= $0.span } }

    private static let units: [(letter: Character, nanoseconds: Int64)] = [
        ("y", 31_536_000_000_000_000), ("w", 604_800_000_000_000), ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
    ]

    private static func nanoseconds(_ text: Substring) throws(LadderError) -> Int64 {
        let word = String(text)
        if text.first == "-" { throw .negative(word) }
        var total: Int64 = 0
        var rest = text
        var unitsLeft = units[...]
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard !digits.isEmpty, let letter = rest.dropFirst(digits.count).first,
                let unit = unitsLeft.firstIndex(where: { $0.letter == letter })
            else { throw .notADuration(word) }
            guard let count = Int64(digits) else { throw .tooLong(word) }
            let product = count.multipliedReportingOverflow(by: units[unit].nanoseconds)
            let sum = total.addingReportingOverflow(product.partialValue)
            // Two centuries: ages and lines stay far inside 64 bits.
            guard !product.overflow, !sum.overflow, sum.partialValue <= 200 * units[0].nanoseconds
            else { throw .tooLong(word) }
            total = sum.partialValue
            unitsLeft = units[(unit + 1)...]
            rest = rest.dropFirst(digits.count + 1)
        }
        guard total > 0 else { throw .zero(word) }
        return total
    }

    private static func text(_ nanoseconds: Int64) -> String {
        var rest = nanoseconds
        var text = ""
        for unit in units where rest >= unit.nanoseconds {
            text += "\(rest / unit.nanoseconds)\(unit.letter)"
            rest %= unit.nanoseconds
        }
        return text + (rest > 0 ? "\(rest)ns" : "")
    }
}

extension Ladder: CustomStringConvertible {
    /// As it is typed.
    public var description: String {
        rungs.map { rung in
            let spacing =
                switch rung.spacing {
                case .every: "every"
                case .grid(let nanoseconds): Self.text(nanoseconds)
                case .newest: "newest"
                }
            return "\(spacing) \(Self.text(rung.span))"
        }.joined(separator: ", ")
    }
}

extension Ladder.Spacing {
    /// Whether a state that held from `start` until just before `end` was the state at a line.
    func holdsLine(from start: Int64, until end: Int64) -> Bool {
        switch self {
        case .every: return true
        case .newest: return false
        case .grid(let spacing):
            guard end > start else { return false }
            let last = end - 1
            let line = last - ((last % spacing) + spacing) % spacing
            return line >= start
        }
    }
}

/// Why a text is no ladder.
public enum LadderError: Error, Hashable, Sendable {
    case empty
    case notARung(String)
    case notADuration(String)
    case negative(String)
    case zero(String)
    case tooLong(String)
    case spanNotRising(String, after: String)
    case spacingNotRising(String, after: String)
    case noMultiple(String, of: String)
    case everyNotFirst
    case behindNewest
}

extension LadderError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .empty: "no rung given"
        case .notARung(let text): "'\(text)' is not a rung: SPACING SPAN"
        case .notADuration(let text):
            "'\(text)' is neither every, newest nor a duration such as 30s, 15m, 1h, 7d, 1y"
        case .negative(let text): "'\(text)' is negative"
        case .zero(let text): "'\(text)' is no time at all"
        case .tooLong(let text): "'\(text)' is too long"
        case .spanNotRising(let span, let before):
            "the spans must rise: \(span) follows \(before)"
        case .spacingNotRising(let spacing, let before):
            "the spacings must rise: \(spacing) follows \(before)"
        case .noMultiple(let spacing, let before):
            "each spacing must be a multiple of the one before: \(spacing) is none of \(before)"
        case .everyNotFirst: "only the first rung can keep every write"
        case .behindNewest: "no rung can follow newest"
        }
    }
}
