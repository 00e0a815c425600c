/** Full jitter: many clients that lost one server come back spread over the whole time, and not in waves. */
export function backoff(attempt: number, base: number, most: number): number {
  return Math.random() * Math.min(most, base * 2 ** attempt);
}
