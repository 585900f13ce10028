/** How many requests are being answered at once: bounded for the server, and for each user so that one noisy client never starves another. */

export const MAX_IN_FLIGHT = 800;
export const MAX_IN_FLIGHT_PER_USER = 400;

export class InFlight {
  readonly #perUser = new Map<string, number>();
  #total = 0;

  /** The release of a place, or null when there is none. */
  enter(user: string): (() => void) | null {
    const mine = this.#perUser.get(user) ?? 0;
    if (this.#total >= MAX_IN_FLIGHT || mine >= MAX_IN_FLIGHT_PER_USER) return null;
    this.#total++;
    this.#perUser.set(user, mine + 1);
    return () => {
      this.#total--;
      const left = (this.#perUser.get(user) ?? 1) - 1;
      if (left === 0) this.#perUser.delete(user);
      else this.#perUser.set(user, left);
    };
  }
}
