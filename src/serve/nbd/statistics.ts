/** What a server did since it was started. */
export interface NbdStatistics {
  /** Connections that are open. */
  connections: number;
  /** Connections that ever were. */
  connectionsTotal: number;
  /** Connections that were closed because the client broke the protocol, or because it was too slow. */
  clientsDropped: number;
  requests: number;
  /** Requests that were answered with an error. */
  requestsFailed: number;
  bytesRead: number;
  bytesWritten: number;
}

export function noStatistics(): NbdStatistics {
  return {
    connections: 0,
    connectionsTotal: 0,
    clientsDropped: 0,
    requests: 0,
    requestsFailed: 0,
    bytesRead: 0,
    bytesWritten: 0,
  };
}
