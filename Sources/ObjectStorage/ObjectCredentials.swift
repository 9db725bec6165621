// The keys that requests are signed with, and where they are looked for. In this order: the file
// that was named · AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN · the profile file
// (AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials; the section AWS_PROFILE or `default`). A
// named file has the form of a profile file, or is JSON: {"access_key": …, "secret_key": …,
// "session_token": …}. What is found is never printed: not in errors, not by `description`.

import Foundation
import Shipping

/// Keys of an account at a store.
public struct ObjectCredentials: Hashable, Sendable {
    let accessKey: String
    let secretKey: String
    let sessionToken: String?

    public init(accessKey: String, secretKey: String, sessionToken: String? = nil) {
        self.accessKey = accessKey
        self.secretKey = secretKey
        self.sessionToken = sessionToken
    }

    /// Finds them. Blocks on the disk.
    public static func resolve(
        file: String?, environment: [String: String]
    ) throws(RemoteSetupError) -> ObjectCredentials {
        let profile = environment["AWS_PROFILE"].flatMap { $0.isEmpty ? nil : $0 }
        if let file {
            return try read(file, profile: profile ?? "default", isJSONAllowed: true)
        }
        if let found = try inEnvironment(environment) { return found }
        let path =
            environment["AWS_SHARED_CREDENTIALS_FILE"]
            ?? environment["HOME"].map { "\($0)/.aws/credentials" }
        guard let path, access(path, F_OK) == 0 else {
            throw RemoteSetupError(
                "there are no keys for the object store",
                hint: "--credentials FILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        }
        return try read(path, profile: profile ?? "default", isJSONAllowed: false)
    }

    private static func inEnvironment(
        _ environment: [String: String]
    ) throws(RemoteSetupError) -> ObjectCredentials? {
        guard let access = environment["AWS_ACCESS_KEY_ID"], !access.isEmpty else { return nil }
        guard let secret = environment["AWS_SECRET_ACCESS_KEY"], !secret.isEmpty else {
            throw RemoteSetupError("AWS_ACCESS_KEY_ID is set, but not AWS_SECRET_ACCESS_KEY")
        }
        let token = environment["AWS_SESSION_TOKEN"].flatMap { $0.isEmpty ? nil : $0 }
        return try checked(access, secret, token, in: "the environment")
    }

    // MARK: - files

    private static let bytesMax = 64 << 10

    private static func read(
        _ path: String, profile: String, isJSONAllowed: Bool
    ) throws(RemoteSetupError) -> ObjectCredentials {
        let bytes = try SecretFile.bytes("the keys", in: path, countMax: bytesMax + 1)
        guard bytes.count <= bytesMax else {
            throw RemoteSetupError("\(path) is too long for a file with keys")
        }
        let text = String(decoding: bytes, as: UTF8.self)
        if isJSONAllowed, text.drop(while: { $0.isWhitespace }).first == "{" {
            return try json(text, path)
        }
        return try section(profile, of: text, path)
    }

    private struct JSONForm: Decodable {
        var accessKey: String
        var secretKey: String
        var sessionToken: String?

        enum CodingKeys: String, CodingKey {
            case accessKey = "access_key"
            case secretKey = "secret_key"
            case sessionToken = "session_token"
        }
    }

    private static func json(
        _ text: String, _ path: String
    ) throws(RemoteSetupError) -> ObjectCredentials {
        // The decoder's own words could tell parts of the file.
        guard let form = try? JSONDecoder().decode(JSONForm.self, from: Data(text.utf8)) else {
            throw RemoteSetupError(
                "\(path) is no JSON with access_key and secret_key",
                hint: #"{"access_key": "…", "secret_key": "…"}"#)
        }
        return try checked(form.accessKey, form.secretKey, form.sessionToken, in: path)
    }

    private static func section(
        _ profile: String, of text: String, _ path: String
    ) throws(RemoteSetupError) -> ObjectCredentials {
        var isIn = false
        var isFound = false
        var values: [String: String] = [:]
        for line in text.split(whereSeparator: \.isNewline) {
            let line = line.trimmingCharacters(in: .whitespaces)
            if line.isEmpty || line.hasPrefix("#") || line.hasPrefix(";") { continue }
            if line.hasPrefix("["), line.hasSuffix("]") {
                let name = line.dropFirst().dropLast().trimmingCharacters(in: .whitespaces)
                isIn = name == profile || name == "profile \(profile)"
                isFound = isFound || isIn
            } else if isIn, let equals = line.firstIndex(of: "=") {
                let key = line[..<equals].trimmingCharacters(in: .whitespaces).lowercased()
                let value = line[line.index(after: equals)...]
                    .trimmingCharacters(in: .whitespaces)
                if !value.isEmpty { values[key] = value }
            }
        }
        guard isFound else {
            throw RemoteSetupError("there is no section [\(profile)] in \(path)")
        }
        guard let access = values["aws_access_key_id"],
            let secret = values["aws_secret_access_key"]
        else {
            throw RemoteSetupError(
                "the section [\(profile)] in \(path) has no keys",
                hint: "aws_access_key_id = … and aws_secret_access_key = …")
        }
        return try checked(access, secret, values["aws_session_token"], in: path)
    }

    /// Keys end up in headers: visible ASCII only.
    private static func checked(
        _ access: String, _ secret: String, _ token: String?, in place: String
    ) throws(RemoteSetupError) -> ObjectCredentials {
        let all = [access, secret] + (token.map { [$0] } ?? [])
        guard
            all.allSatisfy({ text in
                !text.isEmpty && text.utf8.count <= 4096
                    && text.utf8.allSatisfy { (0x21...0x7E) ~= $0 }
            }), !access.contains("/"), !access.contains(",")
        else { throw RemoteSetupError("the keys in \(place) have characters that keys never have") }
        return ObjectCredentials(accessKey: access, secretKey: secret, sessionToken: token)
    }
}

extension ObjectCredentials: CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// Never the keys.
    public var description: String { "keys of an object store" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
