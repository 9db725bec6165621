// What every command shares.

import ArgumentParser
import CommandText

struct OutputOptions: ParsableArguments {
    @Flag(name: .long, help: "Print JSON, for programs.")
    var json = false
}

/// Sizes and durations of options, with the option named in the error.
enum OptionText {
    static func size(_ text: String, _ option: String) throws(CommandFailure) -> UInt64 {
        do throws(ByteSize.Failure) {
            return try ByteSize(parsing: text).bytes
        } catch {
            throw CommandFailure(
                .usage, "", "\(option) \(text.isEmpty ? "''" : text) is not a size",
                cause: error.reason, hint: "for example \(option) 10G; units are powers of 1024")
        }
    }

    static func duration(_ text: String, _ option: String) throws(CommandFailure) -> Int64 {
        do throws(DurationText.Failure) {
            return try DurationText(parsing: text).seconds
        } catch {
            throw CommandFailure(
                .usage, "", "\(option) \(text.isEmpty ? "''" : text) is not a duration",
                cause: error.reason, hint: "for example \(option) 1h30m")
        }
    }
}
