/** Meridian's live channel in the browser. */

export { connect, type ConnectOptions, type Handle, type Live } from "./live.js";
export type { ConnectionState, Timing, Why } from "./link.js";
export type { Denied, Filter, LiveRecord, Scalar } from "./protocol.js";
export type { SubscribeOptions, SubscriptionState } from "./subscription.js";
