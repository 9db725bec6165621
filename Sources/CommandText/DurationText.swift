// Lengths of time as people type and read them: 90s, 15m, 1h, 2d, 1h30m.

/// A length of time from or for a command line.
public struct DurationText: Hashable, Sendable {
    public var seconds: Int64

    public init(seconds: Int64) { self.seconds = seconds }

    /// Why a text is no duration.
    public enum Failure: Error, Hashable, Sendable {
        case empty
        case negative
        case missingUnit
        case notANumber
        case unknownUnit(String)
        /// Units must fall: 1h30m, never 30m1h or 1m1m.
        case unitsOutOfOrder
        case tooLarge

        /// The reason as half a sentence.
        public var reason: String {
            switch self {
            case .empty: return "no duration given"
            case .negative: return "a duration cannot be negative"
            case .missingUnit: return "no unit; write for example 90s, 15m, 1h or 2d"
            case .notANumber: return "not a number with a unit, such as 15m"
            case .unknownUnit(let unit): return "unknown unit '\(unit)'; use s, m, h, d or w"
            case .unitsOutOfOrder: return "units must go from large to small, each once: 1h30m"
            case .tooLarge: return "too long"
            }
        }
    }

    private static let units: [(letter: Character, seconds: Int64)] = [
        ("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1),
    ]

    public init(parsing text: String) throws(Failure) {
        guard let first = text.first else { throw .empty }
        if first == "-" { throw .negative }
        var total: Int64 = 0
        var unitsLeft = Self.units[...]
        var rest = text[...]
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard !digits.isEmpty else { throw .notANumber }
            guard let letter = rest.dropFirst(digits.count).first else { throw .missingUnit }
            guard let known = Self.units.firstIndex(where: { $0.letter == letter }) else {
                throw .unknownUnit(String(letter))
            }
            guard known >= unitsLeft.startIndex else { throw .unitsOutOfOrder }
            unitsLeft = Self.units[(known + 1)...]
            guard let number = Int64(digits) else { throw .tooLarge }
            let product = number.multipliedReportingOverflow(by: Self.units[known].seconds)
            let sum = total.addingReportingOverflow(product.partialValue)
            guard !product.overflow, !sum.overflow, sum.partialValue < 1 << 40 else {
                throw .tooLarge
            }
            total = sum.partialValue
            rest = rest.dropFirst(digits.count + 1)
        }
        seconds = total
    }
}

extension DurationText: CustomStringConvertible {
    /// The two largest units: `2d 3h`, `1h 30m`, `45s`.
    public var description: String {
        if seconds <= 0 { return "0s" }
        var parts: [String] = []
        var rest = seconds
        for (letter, size) in Self.units where rest >= size || !parts.isEmpty {
            if parts.count == 2 { break }
            if rest >= size { parts.append("\(rest / size)\(letter)") }
            if parts.isEmpty { continue }
            rest %= size
            if rest == 0 { break }
        }
        return parts.joined(separator: " ")
    }
}
