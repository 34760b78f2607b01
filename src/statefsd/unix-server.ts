import { createServer, type Server, type Socket } from 'node:net';
import { assertString } from '../core/index.ts';
import { plainBytes } from './plain-bytes.ts';
import type { StateFsService } from './service.ts';
import type { Peer } from './session.ts';
import { listenAt, prepareDirectory, removeSocket, type SocketPlace, socketPath } from './socket-place.ts';

interface Listening {
  readonly server: Server;
  readonly place: SocketPlace;
}

/**
 * A service on Unix sockets: one for each subject, `DIR/SUBJECT.sock`, mode 0600. Who may open a socket is its subject;
 * that is up to the file system.
 */
export class UnixServer {
  readonly #service: StateFsService;
  readonly #directory: string;
  readonly #listening = new Map<string, Listening>();
  readonly #sockets = new Set<Socket>();

  /** Use {@link UnixServer.listen}. */
  private constructor(service: StateFsService, directory: string) {
    this.#service = service;
    this.#directory = directory;
  }

  /**
   * Opens a socket for each subject of the service's policy.
   * @param directory is made where it is not there; nobody else may write to it
   * @throws CodedError EBUSY where another server listens, EPERM, EINVAL, E2BIG, EIO; then no socket is left open
   */
  static async listen(service: StateFsService, directory: string): Promise<UnixServer> {
    assertString(directory, 'directory');
    prepareDirectory(directory);
    const server = new UnixServer(service, directory);
    try {
      await server.follow();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Subjects that have a socket. */
  get subjects(): string[] {
    return [...this.#listening.keys()];
  }

  /** Path of a subject's socket. */
  pathOf(subject: string): string {
    return socketPath(this.#directory, subject);
  }

  /**
   * Opens sockets for subjects that the policy in force lists and that have none, and closes those of subjects that it
   * no longer lists, with their connections.
   * @throws as {@link listen}; the sockets that were opened stay open
   */
  async follow(): Promise<void> {
    const wanted = new Set(this.#service.authority.policy.subjects);
    for (const subject of this.subjects) {
      if (wanted.has(subject)) continue;
      this.#shut(subject);
      this.#service.disconnect(subject);
    }
    for (const subject of wanted) if (!this.#listening.has(subject)) await this.#open(subject);
  }

  /**
   * Takes no more connections and removes the sockets; then the service is stopped, which answers what has arrived.
   * Resolves once every connection is closed.
   */
  async close(): Promise<void> {
    for (const subject of this.subjects) this.#shut(subject);
    this.#service.stop();
    await Promise.all([...this.#sockets].map((socket) => closed(socket)));
  }

  async #open(subject: string): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(subject, socket));
    const place = await listenAt(server, this.#directory, this.pathOf(subject));
    this.#listening.set(subject, { server, place });
  }

  #shut(subject: string): void {
    const listening = this.#listening.get(subject);
    if (listening === undefined) return;
    this.#listening.delete(subject);
    removeSocket(listening.place);
    listening.server.close();
  }

  #accept(subject: string, socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    // Every fault of a connection ends in 'close', which tells the session.
    socket.on('error', () => {});
    const admission = this.#service.connect(subject, new SocketPeer(socket, this.#service));
    if (!('session' in admission)) return;
    const { session } = admission;
    socket.on('data', (chunk) => session.receive(plainBytes(chunk)));
    socket.on('drain', () => session.drained());
    socket.on('end', () => session.inputEnded());
    socket.on('close', () => session.lost('the connection was closed'));
  }
}

class SocketPeer implements Peer {
  readonly #socket: Socket;
  readonly #service: StateFsService;

  constructor(socket: Socket, service: StateFsService) {
    this.#socket = socket;
    this.#service = service;
  }

  get pendingBytes(): number {
    return this.#socket.writableLength;
  }

  send(frame: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(frame);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    const { timers, limits } = this.#service;
    this.#socket.destroySoon();
    // A peer that does not take the rest can't keep the connection.
    const cancel = timers.after(limits.writeTimeoutMs, () => this.#socket.destroy(), false);
    this.#socket.once('close', cancel);
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

function closed(socket: Socket): Promise<void> {
  return socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', () => resolve()));
}
