// What was written over time and where it was overwritten most, as a picture: bars of bytes, bars
// of writes with flushes, and the hottest regions.

/// The picture of `logdisk history --svg`.
public struct ActivityPicture {
    /// What happened in one span of time.
    public struct Bar: Hashable, Sendable {
        public var startWallNanoseconds: Int64
        public var writtenBytes: UInt64
        public var overwrittenBytes: UInt64
        public var writes: UInt64
        public var flushes: UInt64

        public init(
            startWallNanoseconds: Int64, writtenBytes: UInt64, overwrittenBytes: UInt64,
            writes: UInt64, flushes: UInt64
        ) {
            self.startWallNanoseconds = startWallNanoseconds
            self.writtenBytes = writtenBytes
            self.overwrittenBytes = overwrittenBytes
            self.writes = writes
            self.flushes = flushes
        }
    }
    /// A region with the number of writes that overwrote something in it.
    public struct Region: Hashable, Sendable {
        public var label: String
        public var overwrites: UInt64

        public init(label: String, overwrites: UInt64) {
            self.label = label
            self.overwrites = overwrites
        }
    }

    private let title: String
    private let subtitle: String
    private let widthNanoseconds: Int64
    private let bars: [Bar]
    private let regions: [Region]

    private static let left = 96.0
    private static let plotWidth = 768.0
    private static let plotHeight = 150.0
    private static let grey = "#5c6670"
    private static let fresh = "#8fb8de"
    private static let again = "#1f4e79"
    private static let writeColour = "#8fb8de"
    private static let flushColour = "#c2410c"

    /// `bars` follow each other, `widthNanoseconds` apart.
    public init(
        title: String, subtitle: String, widthNanoseconds: Int64, bars: [Bar], regions: [Region]
    ) {
        self.title = title
        self.subtitle = subtitle
        self.widthNanoseconds = widthNanoseconds
        self.bars = bars
        self.regions = regions
    }

    public var svg: String {
        let regionsTop = 540.0
        let height = regionsTop + 40 + Double(max(1, regions.count)) * 20
        var picture = SVGDocument(
            width: Int(Self.left + Self.plotWidth) + 40, height: Int(height), title: title)
        picture.text(Self.left, 28, title, size: 17, isBold: true)
        picture.text(Self.left, 50, subtitle, size: 13)
        drawBytes(&picture, top: 96)
        drawCounts(&picture, top: 322)
        drawRegions(&picture, top: regionsTop)
        return picture.text
    }

    // MARK: - panels

    private func drawBytes(_ picture: inout SVGDocument, top: Double) {
        let most = bars.map(\.writtenBytes).max() ?? 0
        let (step, end) = Self.ticks(most, isBytes: true)
        drawFrame(&picture, top: top, step: step, end: end) { "\(ByteSize(bytes: $0))" }
        legend(
            &picture, top - 10, "bytes written",
            [(Self.fresh, "for the first time"), (Self.again, "over what was written before")])
        forEachBar { i, x, width in
            let bar = bars[i]
            let hint =
                "\(TimeText.rfc3339(bar.startWallNanoseconds)): "
                + "\(ByteSize(bytes: bar.writtenBytes)) written, "
                + "\(ByteSize(bytes: bar.overwrittenBytes)) of it overwritten"
            let over = Self.height(bar.overwrittenBytes, end)
            let all = Self.height(bar.writtenBytes, end)
            let bottom = top + Self.plotHeight
            if all > over {
                picture.rect(
                    x, bottom - all, width, all - over, fill: Self.fresh, hint: hint)
            }
            if over > 0 {
                picture.rect(x, bottom - over, width, over, fill: Self.again, hint: hint)
            }
        }
        drawTimes(&picture, y: top + Self.plotHeight)
    }

    private func drawCounts(_ picture: inout SVGDocument, top: Double) {
        let most = max(bars.map(\.writes).max() ?? 0, bars.map(\.flushes).max() ?? 0)
        let (step, end) = Self.ticks(most, isBytes: false)
        drawFrame(&picture, top: top, step: step, end: end) { "\($0)" }
        legend(
            &picture, top - 10, "number of",
            [(Self.writeColour, "writes"), (Self.flushColour, "flushes")])
        forEachBar { i, x, width in
            let bar = bars[i]
            let bottom = top + Self.plotHeight
            let hint =
                "\(TimeText.rfc3339(bar.startWallNanoseconds)): \(bar.writes) writes, "
                + "\(bar.flushes) flushes"
            let writes = Self.height(bar.writes, end)
            let flushes = Self.height(bar.flushes, end)
            if writes > 0 {
                picture.rect(
                    x, bottom - writes, width, writes, fill: Self.writeColour, hint: hint)
            }
            if flushes > 0 {
                picture.rect(
                    x + width / 3, bottom - flushes, width / 3, flushes, fill: Self.flushColour,
                    hint: hint)
            }
        }
        drawTimes(&picture, y: top + Self.plotHeight)
    }

    private func drawRegions(_ picture: inout SVGDocument, top: Double) {
        picture.text(
            Self.left, top, "hottest regions: writes that overwrote something there", size: 13,
            isBold: true)
        if regions.isEmpty {
            picture.text(Self.left, top + 24, "nothing was overwritten", fill: Self.grey)
        }
        let most = max(1, regions.map(\.overwrites).max() ?? 1)
        for (i, region) in regions.enumerated() {
            let y = top + 14 + Double(i) * 20
            let width = Double(region.overwrites) / Double(most) * 420
            picture.text(Self.left + 200, y + 12, region.label, anchor: .end)
            picture.rect(Self.left + 208, y, max(1, width), 14, fill: Self.again)
            picture.text(
                Self.left + 214 + max(1, width), y + 12, "\(region.overwrites)", fill: Self.grey)
        }
    }

    // MARK: - axes

    private func drawFrame(
        _ picture: inout SVGDocument, top: Double, step: UInt64, end: UInt64,
        _ label: (UInt64) -> String
    ) {
        for tick in stride(from: UInt64(0), through: end, by: Int(clamping: step)) {
            let y = top + Self.plotHeight - Self.height(tick, end)
            picture.line(
                Self.left, y, Self.left + Self.plotWidth, y,
                stroke: tick == 0 ? Self.grey : "#dde3e8")
            picture.text(
                Self.left - 8, y + 4, label(tick), size: 11, anchor: .end, fill: Self.grey)
        }
        picture.line(Self.left, top, Self.left, top + Self.plotHeight, stroke: Self.grey)
    }

    private func drawTimes(_ picture: inout SVGDocument, y: Double) {
        guard let first = bars.first, let last = bars.last else { return }
        let shown = 6
        let step = max(1, (bars.count + shown - 1) / shown)
        let slot = Self.plotWidth / Double(bars.count)
        let isWithinDay = Self.day(first) == Self.day(last)
        for i in stride(from: 0, to: bars.count, by: step) {
            let x = Self.left + Double(i) * slot
            picture.line(x, y, x, y + 4, stroke: Self.grey)
            let text = TimeText.rfc3339(bars[i].startWallNanoseconds)
            let time = String(text.dropFirst(11).prefix { $0.isNumber || $0 == ":" || $0 == "." })
            let label = isWithinDay ? time : "\(Self.day(bars[i]).dropFirst(5)) \(time.prefix(5))"
            picture.text(x, y + 17, label, size: 11, fill: Self.grey)
        }
        let end = TimeText.rfc3339(first.startWallNanoseconds).dropFirst(19)
            .drop { $0.isNumber || $0 == "." }
        let zone = end == "Z" ? "UTC" : "UTC\(end)"
        let days = isWithinDay ? Self.day(first) : "\(Self.day(first)) to \(Self.day(last))"
        let width = Self.widthText(widthNanoseconds)
        picture.text(
            Self.left + Self.plotWidth, y + 34, "\(days), \(zone); one bar is \(width)",
            size: 11, anchor: .end, fill: Self.grey)
    }

    private func legend(
        _ picture: inout SVGDocument, _ y: Double, _ title: String, _ items: [(String, String)]
    ) {
        picture.text(Self.left, y, title, size: 13, isBold: true)
        var x = Self.left + 110
        for (colour, label) in items {
            picture.rect(x, y - 10, 12, 12, fill: colour)
            picture.text(x + 17, y, label)
            x += 40 + Double(label.count) * 7
        }
    }

    private func forEachBar(_ body: (Int, Double, Double) -> Void) {
        guard !bars.isEmpty else { return }
        let slot = Self.plotWidth / Double(bars.count)
        for i in bars.indices {
            body(i, Self.left + Double(i) * slot + slot * 0.06, slot * 0.88)
        }
    }

    private static func day(_ bar: Bar) -> Substring {
        Substring(TimeText.rfc3339(bar.startWallNanoseconds).prefix(10))
    }

    private static func height(_ value: UInt64, _ end: UInt64) -> Double {
        Double(value) / Double(max(1, end)) * plotHeight
    }

    /// Round steps of an axis, and its end: a multiple of the step, at least `most`.
    static func ticks(_ most: UInt64, isBytes: Bool) -> (step: UInt64, end: UInt64) {
        var step: UInt64 = 1
        let base: UInt64 = isBytes ? 2 : 10
        let most = min(max(1, most), 1 << 60)
        while most / step > 5 {
            if !isBytes, most / (step * 2) <= 5 {
                step *= 2
                break
            }
            if !isBytes, most / (step * 5) <= 5 {
                step *= 5
                break
            }
            step *= base
        }
        return (step, (most + step - 1) / step * step)
    }

    /// `10ms`, `5m`, `1d`.
    public static func widthText(_ nanoseconds: Int64) -> String {
        if nanoseconds >= 1_000_000_000 {
            return DurationText(seconds: nanoseconds / 1_000_000_000).description
        }
        return nanoseconds >= 1_000_000
            ? "\(nanoseconds / 1_000_000)ms" : "\(nanoseconds / 1000)µs"
    }
}
