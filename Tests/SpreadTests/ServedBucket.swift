// A bucket at a real object storage, and devices of it.

import Foundation
import ObjectEngines
import ObjectStorage
import Offsite
import Shipping
import Spread
import Testing

/// One bucket of its own.
final class ServedBucket {
    let engine: ObjectEngine
    let name: String

    /// Whether there is an engine; in CI a missing one fails.
    static var isHere: Bool { ObjectEngine.Kind.toTest.contains(.seaweedFS) }

    init() throws {
        engine = try ObjectEngine.shared(.seaweedFS)
        name = try engine.newBucket()
    }

    func url(_ device: String) -> String { "s3://\(name)/\(device)" }

    func device(
        _ device: String, called: String? = nil, key: ObjectEngine.Key? = nil,
        endpoint: String? = nil
    ) throws -> ObjectDevice {
        let key = key ?? engine.writer
        var access = ObjectAccess(environment: [
            "AWS_ACCESS_KEY_ID": key.access, "AWS_SECRET_ACCESS_KEY": key.secret,
        ])
        access.endpoint = endpoint ?? engine.endpoint
        access.region = engine.region
        access.attemptsMax = 3
        let url = url(device)
        return try ObjectDevice(name: called ?? url, ObjectURL(url), access: access)
    }
}
