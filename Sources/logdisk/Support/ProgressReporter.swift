// Shows progress on standard error: a bar on a terminal, a plain line every few seconds elsewhere,
// nothing with --json. Called from one thread.

import CommandText

final class ProgressReporter {
    private var text: ProgressText
    private let isSilent: Bool
    private let start = ContinuousClock.now
    private var lastShown: ContinuousClock.Instant?
    private var barIsShown = false

    /// Seconds between plain lines, and between redraws of the bar.
    private static let lineSeconds = 5.0
    private static let barSeconds = 0.1

    init(_ label: String, totalBytes: UInt64, isSilent: Bool) {
        text = ProgressText(label: label, totalBytes: totalBytes)
        self.isSilent = isSilent
    }

    /// Call as often as convenient. Throws when the user interrupted the command.
    func update(_ doneBytes: UInt64, of totalBytes: UInt64? = nil) throws(CommandFailure) {
        try Interruption.check()
        if let totalBytes { text.totalBytes = totalBytes }
        let now = ContinuousClock.now
        let since = seconds(from: lastShown ?? start, to: now)
        let pause = Terminal.errorIsTerminal ? Self.barSeconds : Self.lineSeconds
        guard !isSilent, since >= pause else { return }
        lastShown = now
        show(doneBytes, now)
    }

    /// Removes the bar, so that what follows starts on a clean line.
    func finish() {
        guard barIsShown else { return }
        Terminal.write("\r\u{1B}[K", to: 2)
        barIsShown = false
    }

    private func show(_ doneBytes: UInt64, _ now: ContinuousClock.Instant) {
        let elapsed = seconds(from: start, to: now)
        if Terminal.errorIsTerminal {
            let bar = text.bar(doneBytes: doneBytes, seconds: elapsed, width: Terminal.width)
            Terminal.write("\r\u{1B}[K" + bar, to: 2)
            barIsShown = true
        } else {
            Terminal.error(text.line(doneBytes: doneBytes, seconds: elapsed))
        }
    }

    private func seconds(
        from start: ContinuousClock.Instant, to end: ContinuousClock.Instant
    ) -> Double {
        let length = end - start
        return Double(length.components.seconds) + Double(length.components.attoseconds) / 1e18
    }
}
