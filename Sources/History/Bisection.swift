// The search for the first bad one among candidates in order, of which it is known that one before
// them is good and one after them is bad. Pure: it says what to try and takes the verdicts.

/// A binary search that can go around candidates of which nobody can tell. A value.
///
/// Candidates are 0 ..< count; the good end is -1, the bad end is `count`. Invariant: `good` was
/// found good, `bad` was found bad, and good < bad.
public struct Bisection: Sendable {
    public enum Verdict: String, Hashable, Sendable { case good, bad, skip }

    public let count: Int
    /// The last one known to be good; -1 is the end before all candidates.
    public private(set) var good = -1
    /// The first one known to be bad; `count` is the end behind all candidates.
    public private(set) var bad: Int
    private var skips: Set<Int> = []

    public init(count: Int) {
        precondition(count >= 0)
        self.count = count
        bad = count
    }

    /// Tries that are enough when none is skipped: log2(count) + 1, rounded down.
    public static func triesMax(count: Int) -> Int {
        Int.bitWidth - count.leadingZeroBitCount
    }

    /// What to try next: the middle of what is left, or the nearest to it that was not skipped; nil
    /// when nothing is left to try.
    public var next: Int? {
        guard bad - good > 1 else { return nil }
        let middle = good + (bad - good) / 2
        for distance in 0..<(bad - good) {
            for candidate in [middle - distance, middle + distance]
            where candidate > good && candidate < bad && !skips.contains(candidate) {
                return candidate
            }
        }
        return nil
    }

    /// Takes the verdict on `next`.
    public mutating func judge(_ verdict: Verdict) {
        guard let tried = next else { preconditionFailure("a verdict on nothing") }
        switch verdict {
        case .good: good = tried
        case .bad: bad = tried
        case .skip: skips.insert(tried)
        }
    }

    /// Those between `good` and `bad` that were skipped: each may be the first bad one as well.
    public var undecided: [Int] { skips.filter { $0 > good && $0 < bad }.sorted() }
}
