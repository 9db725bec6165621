// What long work says of itself, as a pure function of how far it is and how long it took. When to
// say it, and on what, is ProgressReporter's business (Sources/logdisk).

/// Progress of one piece of work counted in bytes.
public struct ProgressText: Sendable {
    public var label: String
    public var totalBytes: UInt64

    public init(label: String, totalBytes: UInt64) {
        self.label = label
        self.totalBytes = totalBytes
    }

    /// The bar for a terminal of `width` columns: `copy [####....] 45%  1.2 GiB of 2.7 GiB  210
    /// MiB/s  7s left`. Never longer than `width` - 1.
    public func bar(doneBytes: UInt64, seconds: Double, width: Int) -> String {
        let facts = self.facts(doneBytes: doneBytes, seconds: seconds)
        let room = width - 1 - label.count - facts.count - 4
        guard room >= 8 else { return String((label + " " + facts).prefix(max(0, width - 1))) }
        let cells = min(room, 40)
        let filled = Int(fraction(doneBytes) * Double(cells))
        let picture =
            String(repeating: "#", count: filled) + String(repeating: ".", count: cells - filled)
        return "\(label) [\(picture)] \(facts)"
    }

    /// The same as a plain line, for logs and pipes.
    public func line(doneBytes: UInt64, seconds: Double) -> String {
        "\(label): \(facts(doneBytes: doneBytes, seconds: seconds))"
    }

    private func fraction(_ doneBytes: UInt64) -> Double {
        totalBytes == 0 ? 1 : min(1, Double(doneBytes) / Double(totalBytes))
    }

    private func facts(doneBytes: UInt64, seconds: Double) -> String {
        let share = Int(fraction(doneBytes) * 100)
        var text = "\(share)%  \(ByteSize(bytes: doneBytes)) of \(ByteSize(bytes: totalBytes))"
        guard seconds > 0.5, doneBytes > 0 else { return text }
        let rate = Double(doneBytes) / seconds
        text += "  \(ByteSize(bytes: UInt64(rate)))/s"
        if doneBytes < totalBytes {
            let left = Double(totalBytes - doneBytes) / rate
            if left < 1e9 { text += "  \(DurationText(seconds: Int64(left.rounded(.up)))) left" }
        }
        return text
    }
}
