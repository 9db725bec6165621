// How a mount in the background tells the command that started it whether it runs.
//
// The command hands the child the write end of a pipe as descriptor 3. The child writes a line
// `ready`, a space and what is to be said of it, followed by warnings, a line each; or a line with
// the exit code, followed by the message word for word as the command shall print it. An end
// without a line means that the child died.

import CommandText
import Foundation

/// What a child says of its start.
enum StartReport: Equatable {
    case ready(warnings: [String], words: String)
    case failed(ExitStatus, message: String)
    case died

    /// Descriptor of the pipe in the child.
    static let descriptor: Int32 = 3

    var text: String {
        switch self {
        case .ready(let warnings, let words):
            (["ready \(words)"] + warnings).joined(separator: "\n") + "\n"
        case .failed(let status, let message): "\(status.rawValue)\n\(message)"
        case .died: ""
        }
    }

    init(text: String) {
        let lines = text.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
        let rest = lines.count == 2 ? String(lines[1]) : ""
        if let first = lines.first, first.hasPrefix("ready ") {
            self = .ready(
                warnings: rest.split(separator: "\n").map(String.init),
                words: String(first.dropFirst("ready ".count)))
        } else if let code = lines.first.flatMap({ Int32($0) }),
            let status = ExitStatus(rawValue: code)
        {
            self = .failed(status, message: rest)
        } else {
            self = .died
        }
    }

    /// Writes it to the pipe and closes that. For the child, once.
    func send() {
        Terminal.write(text, to: Self.descriptor)
        close(Self.descriptor)
    }
}
