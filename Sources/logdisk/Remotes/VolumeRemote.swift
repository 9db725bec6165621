// A volume at a remote, whatever keeps it there. Commands, shippers and adoption work with this;
// what speaks to one kind of remote stands behind it, in a file of its own (LogServerRemote). Which
// kind a URL means is decided in RemotePlace, and nowhere else.

import History
import ServerAPI
import Shipping

/// One volume at one remote. Any thread may call; calls block.
protocol VolumeRemote: AnyObject, Sendable {
    /// Carries segments there, and knows where the volume stands.
    var target: any ShipTarget { get }

    /// Its segments, for reading. Asks for nothing yet.
    func store() -> any SegmentStore

    /// Makes the writer that this was opened with the one that may write.
    func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply

    /// Keeps segments from being pruned there. `.refused` and `.rejected`: it cannot be had, and
    /// reading works without.
    func lease(_ request: LeaseRequest) throws(ShipError) -> any ReadingLease

    /// Nothing is asked for a while: connections may go.
    func rest()
}

/// The kinds of remotes, in the words of messages.
enum RemoteKind: Sendable {
    case logServer

    /// Of what the user named; anything but a URL of another kind counts as a log server.
    init(url: String) { self = .logServer }

    /// As the subject of a sentence.
    var words: String {
        switch self {
        case .logServer: "the log server"
        }
    }

    /// What to do when it does not answer.
    var reachHint: String {
        switch self {
        case .logServer: "is it running, and is the way there open?"
        }
    }

    /// The same to who ships there.
    var shipHint: String {
        switch self {
        case .logServer: "is logdisk serve running there, and nothing in between that stops it?"
        }
    }

    /// Where to look when it cannot even be asked.
    var setupHint: String {
        switch self {
        case .logServer: "look at --token-file and --ca"
        }
    }

    /// What to do when it refuses.
    var accessHint: String {
        switch self {
        case .logServer: "look at --token-file and --ca; logdisk access list STORE at the server"
        }
    }
}
