// How a bucket is reached, as the user said. Kept with a remote's other settings; of the
// credentials only where they lie.

import ArgumentParser
import CommandText
import Foundation

/// What goes with an s3 URL. A value.
struct ObjectSettings: Codable, Hashable, Sendable {
    /// URL of the service; nil: that of Amazon for the region.
    var endpoint: String?
    var region: String?
    /// The bucket stands in the path instead of the host's name.
    var isPathStyle = false
    /// nil: environment, then the profile file.
    var credentialsFile: String?
    /// The user vouches that nobody else writes there: the store does not see to it.
    var isSingleWriter = false
    /// What is larger goes in parts of this size; nil: as usual.
    var objectBytes: UInt64?

    enum CodingKeys: String, CodingKey {
        case endpoint, region
        case isPathStyle = "path_style"
        case credentialsFile = "credentials_file"
        case isSingleWriter = "single_writer"
        case objectBytes = "object_bytes"
    }
}

/// Options that every command takes that speaks to object storage.
struct ObjectOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "For s3://: where the service is (or AWS_ENDPOINT_URL); else Amazon's.",
            valueName: "URL"))
    var endpoint: String?

    @Option(
        help: ArgumentHelp(
            "For s3://: the region (or AWS_REGION; default us-east-1).", valueName: "R"))
    var region: String?

    @Flag(help: "For s3://: the bucket is named in the path, not in the host's name.")
    var pathStyle = false

    @Option(
        help: ArgumentHelp(
            "For s3://: the file with the keys; mode 0600. Without it AWS_ACCESS_KEY_ID and the "
                + "like in the environment, then the profile file.", valueName: "FILE|env"))
    var credentials: String?

    /// What was given, or stands in the environment. Paths are made absolute.
    var settings: ObjectSettings {
        func variable(_ names: String...) -> String? {
            let environment = ProcessInfo.processInfo.environment
            return names.compactMap { environment[$0] }.first { !$0.isEmpty }
        }
        var settings = ObjectSettings()
        settings.endpoint = endpoint ?? variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        settings.region = region ?? variable("AWS_REGION", "AWS_DEFAULT_REGION")
        settings.isPathStyle = pathStyle
        if let credentials, credentials != "env" {
            settings.credentialsFile = PathText.canonical(credentials)
        }
        return settings
    }

    /// What another process of this program is started with, to the same effect.
    var arguments: [String] {
        let given = [
            ("--endpoint", endpoint), ("--region", region), ("--credentials", credentials),
        ]
        var words = given.flatMap { name, value in value.map { [name, $0] } ?? [] }
        if pathStyle { words.append("--path-style") }
        return words
    }

    static let names: Set = [
        "--endpoint", "--region", "--path-style", "--credentials", "--single-writer",
        "--object-size",
    ]

    /// The first option that was given.
    var given: String? { arguments.first }
}

/// Options of commands that make somebody the writer of a volume on object storage.
struct ObjectWriterOptions: ParsableArguments {
    @Flag(
        help: ArgumentHelp(
            "For s3://: write although the store does not keep a second writer away. Then nothing "
                + "does but you."))
    var singleWriter = false

    @Option(
        help: ArgumentHelp(
            "For s3://: what is larger goes in parts of this size, 5M to 1G (default 8M).",
            valueName: "SIZE"))
    var objectSize: String?

    var given: String? {
        singleWriter ? "--single-writer" : objectSize != nil ? "--object-size" : nil
    }

    /// Adds what was given to `settings`.
    func apply(to settings: inout ObjectSettings) throws(CommandFailure) {
        settings.isSingleWriter = singleWriter
        guard let objectSize else { return }
        let bytes = try OptionText.size(objectSize, "--object-size")
        guard (5 << 20)...(1 << 30) ~= bytes else {
            throw CommandFailure(
                .usage, "", "--object-size \(objectSize) is out of range",
                cause: "parts have 5 MiB to 1 GiB", hint: "for example --object-size 16M")
        }
        settings.objectBytes = bytes
    }
}
