export interface components {
    schemas: {
        /** @example 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed */
        TaskId: string;
        /**
         * @description - `pending`: created, no worker has begun.
         *     - `processing`: the agent runs.
         *     - `completed`: it finished. Final.
         *     - `error`: it failed, was given up or cancelled, see `error_code` and `error_message`. Final.
         * @enum {string}
         */
        Status: "pending" | "processing" | "completed" | "error";
        /**
         * @description Why a task ended as `error`. There may be new ones.
         *     - `cancelled`: somebody cancelled it.
         *     - `dispatch_failed`: no worker could be invoked. Nobody was contacted.
         *     - `not_started`: the agent was not started in time. Nobody was contacted.
         *     - `not_configured`: the operator has not said which agent to run. Nobody was contacted.
         *     - `worker_lost`: the worker stopped without an outcome. After this and all codes that follow, vendors may have been contacted.
         *     - `agent_failed`: the agent failed, or its answer cannot be used.
         *     - `agent_lost`: contact with the agent was lost, or it stopped reporting.
         *     - `agent_timeout`: the agent ran out of time.
         *     - `answer_too_large`: the agent's answer was too large to be kept.
         */
        TaskErrorCode: "cancelled" | "dispatch_failed" | "not_started" | "not_configured" | "worker_lost" | "agent_failed" | "agent_lost" | "agent_timeout" | "answer_too_large";
        /**
         * Format: date-time
         * @description UTC, RFC 3339. Those of new tasks always have microseconds, so that their text sorts by time.
         * @example 2025-10-31T12:00:00.000000Z
         */
        Timestamp: string;
        NewTask: {
            /**
             * @description What to do, in words; 1 to 4,000 characters after white space is trimmed from both ends.
             * @example Find me a landscaper in Charlotte under $300
             */
            description: string;
            /**
             * @description The id of a task that has ended, to go on where it ended. It must be yours, and not followed yet; a follower whose agent was never started does not count.
             *     Gated like cancelling and deleting.
             * @example 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
             */
            follows?: string | null;
            /**
             * @description The answers to the `interrupts` of the task that this one follows, each under the `id` of its interrupt; any JSON, at most 20,000 bytes together. Only beside `follows`: alone they are a 400 `invalid_answers`.
             *     What it leaves out the agent gets as cancelled. Without `answers` the description answers a single interrupt that wants no other type than a text.
             * @example {
             *       "booking": true
             *     }
             */
            answers?: {
                [key: string]: unknown;
            } | null;
        };
        /** @description Something that the agent stopped to ask. */
        Interrupt: {
            /** @description The agent's own name for it. */
            id: string;
            /** @description Why it asks, for programs. */
            reason?: string;
            /** @description What it asks, for a person. Text, not HTML. */
            message?: string;
            /** @description A JSON Schema of the answer that it wants; usually an object. */
            response_schema?: unknown;
        };
        Accepted: {
            id: components["schemas"]["TaskId"];
            status: components["schemas"]["Status"];
            /** @enum {string} */
            message: "Task created and processing started" | "This task was created before and has ended";
        };
        /** @description A task as the list shows it. */
        ListedTask: {
            id: components["schemas"]["TaskId"];
            /** @description What was asked for, trimmed. */
            description: string;
            status: components["schemas"]["Status"];
            vendors: components["schemas"]["Vendor"][];
            quotes: components["schemas"]["Quote"][];
            /** @description How many e-mails the agent says it sent; 0 may mean that it did not say. */
            emails_sent: number;
            /** @description The timeline, oldest first. It only grows. */
            events: components["schemas"]["Event"][];
            /**
             * @description The id of the conversation's first task; its own, if it follows none.
             * @example 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
             */
            thread_id: string;
            /** @description The id of the task that it follows, if it follows one. That one may have been deleted since. */
            follows?: string;
            /** @description The id of the task that follows it, once there is one. */
            followed_by?: string;
            /** @description What the agent stopped to ask, if it did. Answer it by a task that follows this one. */
            interrupts?: components["schemas"]["Interrupt"][];
            created_at: components["schemas"]["Timestamp"];
            updated_at: components["schemas"]["Timestamp"];
            /** @description When a worker took the task. Absent before that, and for tasks from before this API kept it. */
            started_at?: components["schemas"]["Timestamp"];
            /** @description When the task ended, whether as `completed` or as `error`. Absent before that, and for tasks from before this API kept it. */
            completed_at?: components["schemas"]["Timestamp"];
            /**
             * @description Present if the agent's answer was too large to be kept whole; an event says how much was cut.
             * @constant
             */
            agent_response_truncated?: true;
            /** @description Present if, and only if, `status` is `error`. What went wrong, and whether the agent may have acted. */
            error_message?: string;
            /** @description Present if `status` is `error`, unless the task ended before this API had codes. */
            error_code?: components["schemas"]["TaskErrorCode"];
            /**
             * @description Present if `status` is `error`, unless the task ended before this API kept it: whether the agent may have contacted vendors.
             *     False only if it is certain that it has not.
             */
            may_have_acted?: boolean;
            /** @description When somebody first cancelled the task while its agent ran. It ends within a minute from then. */
            cancel_requested_at?: components["schemas"]["Timestamp"];
        };
        /** @description A task with everything that is known of it. */
        Task: components["schemas"]["ListedTask"] & {
            /**
             * @description What the agent answered, present if `status` is `completed`, and sometimes if it is `error`.
             *     Text, not HTML: never put it into a page as markup.
             */
            agent_response?: string;
        };
        /** @description One line of the timeline. */
        Event: {
            ts: components["schemas"]["Timestamp"];
            /** @description For a person. Text, not HTML. */
            message: string;
            /** @enum {string} */
            type: "info" | "success" | "error";
        };
        /**
         * @description A company that the agent found. `name`, `email` and `phone` are texts or absent, and `emails` is a list of objects, whatever the agent sent.
         *     All else is up to the agent: any field may be absent or of another type, and there may be others. None of the fields listed here is null.
         */
        Vendor: {
            /**
             * @description What its quotes call it, as `vendor_id`; usually text.
             * @example green-fern-landscaping
             */
            id?: unknown;
            /**
             * @description The company's name.
             * @example Green Fern Landscaping
             */
            name?: string;
            /**
             * @description Its e-mail address, as the agent wrote it.
             * @example green-fern-landscaping@example.com
             */
            email?: string;
            /**
             * @description Its telephone number, as the agent wrote it.
             * @example +1 704 555 0100
             */
            phone?: string;
            /**
             * @description Out of 5, usually a number.
             * @example 4.8
             */
            rating?: unknown;
            /**
             * @description Usually a number.
             * @example 275
             */
            price?: unknown;
            /** @description The e-mails that this vendor was sent. */
            emails: components["schemas"]["Email"][];
        } & {
            [key: string]: unknown;
        };
        /** @description An e-mail that the agent sent. These fields are texts or absent, and there may be others. */
        Email: {
            /**
             * @description The address it went to.
             * @example green-fern-landscaping@example.com
             */
            recipient?: string;
            /** @description Its subject. */
            subject?: string;
            /** @description Its text. */
            body?: string;
            /**
             * @description When it was sent, usually RFC 3339.
             * @example 2025-10-31T12:00:02.000Z
             */
            timestamp?: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description A price that a vendor asks. `vendor`, `currency` and `text` are texts or absent; all else is up to the agent, as with vendors.
         *     Agents name the vendor by `vendor_id`, `vendor` or both, and the price by `amount`, `price` or both: read either.
         */
        Quote: {
            /**
             * @description The `id` of the vendor who asks it.
             * @example green-fern-landscaping
             */
            vendor_id?: unknown;
            /**
             * @description The vendor's name.
             * @example Green Fern Landscaping
             */
            vendor?: string;
            /**
             * @description The price, usually a number.
             * @example 275
             */
            amount?: unknown;
            /**
             * @description The price, usually a number.
             * @example 275
             */
            price?: unknown;
            /**
             * @description Usually ISO 4217; USD if absent.
             * @example USD
             */
            currency?: string;
            /** @description What the agent said, if that was no object. */
            text?: string;
        } & {
            [key: string]: unknown;
        };
        /** @description What an agent reports at once. Other fields are ignored. The token is written as `[token]` wherever a report says it. */
        Report: {
            /**
             * @description A text of the agent's own making, new for every report and the same when retrying.
             * @example 5f0c8a
             */
            report_id: string;
            /** @description Lines for the timeline, for a person; blank ones are left out, longer ones than 1,000 characters cut. A task keeps 200 lines and 64 KB. */
            messages?: string[];
            /**
             * @description The answer, as an agent would return it: an object with `response`, `vendors`, `quotes`, `emails`, `emails_sent` and `interrupts`, each as it likes, or the response alone.
             *     The task ends as `completed`; as `error` if the answer cannot be used.
             */
            answer?: Record<string, never> | string | null;
            /** @description Why the agent failed, for a person. The task ends as `error`, with what is in `answer`. */
            error?: string | null;
        };
        /** @description What an agent learns from a report. */
        Received: {
            status: components["schemas"]["Status"];
            /** @description Whether to work on. False if the task has ended, or somebody has cancelled it; an agent should stop then. */
            continue: boolean;
        };
        /** @description An error of this API. */
        ApiError: {
            /** @description A sentence for a person, who learns from it what to do. */
            error: string;
            code: components["schemas"]["ErrorCode"];
            /** @description The task that the error is about, with `worker_unavailable`. */
            id?: components["schemas"]["TaskId"];
            /** @description The task that follows the earlier one, with `already_followed`. */
            followed_by?: components["schemas"]["TaskId"];
            /** @description What wants an answer, with `answers_required`. */
            interrupts?: components["schemas"]["Interrupt"][];
        };
        /** @description For programs. Codes do not change; there may be new ones. */
        ErrorCode: "invalid_body" | "invalid_description" | "invalid_answers" | "answers_required" | "invalid_idempotency_key" | "invalid_query" | "invalid_limit" | "invalid_cursor" | "invalid_status" | "invalid_report" | "invalid_token" | "no_subject" | "not_allowed" | "not_found" | "task_not_found" | "method_not_allowed" | "task_ended" | "task_not_final" | "already_followed" | "task_deleted" | "not_accepted" | "body_too_large" | "idempotency_key_reused" | "busy" | "not_configured" | "internal_error" | "worker_unavailable" | "invalid_event";
        /** @description An answer of API Gateway's own; the function was not asked, or did not answer. */
        GatewayMessage: {
            message: string | null;
        };
        /** @description An error of this API, or of the gateway before it. */
        AnyError: components["schemas"]["ApiError"] | components["schemas"]["GatewayMessage"];
    };
}
