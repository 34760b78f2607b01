/** What a back end did since it was started. */
export interface VhostStatistics {
  /** Front ends that are connected: 0 or 1. */
  connections: number;
  connectionsTotal: number;
  /** Front ends that were dropped because they broke the protocol. */
  clientsDropped: number;
  requests: number;
  /** Requests in which an operation of the disk failed. */
  requestsFailed: number;
  /** Requests that a former back end had taken and not given back. */
  requestsResumed: number;
  bytesRead: number;
  bytesWritten: number;
  /** Notifications that came, and that were sent. */
  kicks: number;
  calls: number;
  /** Queues that broke because of what a driver put there. */
  queuesBroken: number;
}

export function noStatistics(): VhostStatistics {
  return {
    connections: 0,
    connectionsTotal: 0,
    clientsDropped: 0,
    requests: 0,
    requestsFailed: 0,
    requestsResumed: 0,
    bytesRead: 0,
    bytesWritten: 0,
    kicks: 0,
    calls: 0,
    queuesBroken: 0,
  };
}
