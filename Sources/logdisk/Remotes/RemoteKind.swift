// The kinds of remotes, in the words of messages.

import ObjectStorage

enum RemoteKind: Sendable {
    case logServer
    case objectStorage

    /// Of what the user named; anything but a URL of another kind counts as a log server.
    init(url: String) {
        self = ObjectURL.isMeant(by: url) ? .objectStorage : .logServer
    }

    /// As the subject of a sentence.
    var words: String {
        switch self {
        case .logServer: "the log server"
        case .objectStorage: "the object storage"
        }
    }

    /// Where a volume lies that is there.
    var place: String {
        switch self {
        case .logServer: "at a log server"
        case .objectStorage: "on object storage"
        }
    }

    /// What to do when it does not answer.
    var reachHint: String {
        switch self {
        case .logServer: "is it running, and is the way there open?"
        case .objectStorage: "is --endpoint right, is it running, and is the way there open?"
        }
    }

    /// The same to who ships there.
    var shipHint: String {
        switch self {
        case .logServer: "is logdisk serve running there, and nothing in between that stops it?"
        case .objectStorage: reachHint
        }
    }

    /// Where to look when it cannot even be asked.
    var setupHint: String {
        switch self {
        case .logServer: "look at --token-file and --ca"
        case .objectStorage: "look at --endpoint, --credentials and --ca"
        }
    }

    /// What to do when what was named is not there.
    var missingHint: String {
        switch self {
        case .logServer: "logdisk remote add VOL NAME URL makes a volume there, from its machine"
        case .objectStorage:
            "look at the name, --endpoint and --region; logdisk makes no buckets"
        }
    }

    /// What to do when it refuses.
    var accessHint: String {
        switch self {
        case .logServer: "look at --token-file and --ca; logdisk access list STORE at the server"
        case .objectStorage:
            "look at --credentials, --region and --ca, at the clock, and at what the key may do "
                + "there"
        }
    }
}
