// What goes wrong, with the keys that the body of ERROR has (section 4.3).

export class FdnError extends Error {
  constructor({ code = "internal", message = "", hint, retryable, ...rest } = {}) {
    super(message);
    Object.assign(this, { code, hint, retryable, ...rest });
  }

  /** What a handler threw, as the body of ERROR. */
  static body(error) {
    const { code = "internal", message, hint, retryable } = error;
    return { code, message, hint, retryable };
  }
}

export const cancelled = () => new FdnError({ code: "cancelled", message: "the call was cancelled" });

export const deadlineExceeded = (what, ms) =>
  new FdnError({ code: "deadline_exceeded", message: `${what} took longer than ${ms} ms`, retryable: false });
