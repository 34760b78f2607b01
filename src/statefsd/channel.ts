/** How a client reaches a server: a stream of bytes in both directions, in order, that may break at any time. */
export interface Channel {
  /** Takes on a frame, which is the channel's from then on. */
  write(frame: Uint8Array): void;
  /** Gives it up at once. No handler is called afterwards. */
  close(): void;
}

export interface ChannelHandlers {
  /** The way is open. Called at most once, perhaps before the connector returns. */
  opened(channel: Channel): void;
  /** Bytes arrived; they are the handler's. */
  received(bytes: Uint8Array): void;
  /** It is over, or never came about. Called once, and nothing after it. */
  closed(reason: string): void;
}

/** Starts one connection. @returns gives it up before it is open */
export type Connector = (handlers: ChannelHandlers) => () => void;
